package autograd

// Kind is what a weight is, as far as weight decay and adapters care.
type Kind uint8

const (
	Weight    Kind = iota // a matrix of a linear layer
	Embedding             // a table of rows
	Norm                  // scale (or shift) of a normalisation
	Bias                  // shift of a linear layer
	Adapter               // a matrix that an adapter adds
)

// String is the kind's word in a job's no_decay list.
func (k Kind) String() string {
	return [...]string{"weight", "embedding", "norm", "bias", "adapter"}[k]
}

// Param is a handle to a weight: who it is and where it lies, not its values.
type Param struct {
	Name       string // Hugging Face's (or PEFT's) name
	Unit       int    // the unit it is acquired with
	Kind       Kind
	Rows, Cols int   // a vector is (1, n)
	Shape      []int // as stored in files
	Off        int   // first element in the job's index space; -1: not trained
	Tied       bool  // used at both ends of the model
}

// Len is the number of elements.
func (p *Param) Len() int { return p.Rows * p.Cols }
