package job

import "fmt"

// node is one value of a YAML or JSON document: the form both are read into before the strict decoder sees them.
type node struct {
	kind   kind
	line   int    // from 1; 0 for a value that comes from --set
	text   string // of a scalar
	quoted bool   // a quoted scalar is a string, whatever it looks like
	keys   []key  // of a mapping, in file order
	items  []*node
}

type kind int

const (
	null kind = iota
	scalar
	mapping
	sequence
)

func (k kind) String() string {
	return [...]string{"nothing", "a value", "a mapping", "a list"}[k]
}

type key struct {
	name  string
	line  int
	value *node
}

// add appends a key, refusing a second one of the same name: which of the two counts would depend on the reader.
func (n *node) add(k key) error {
	for _, have := range n.keys {
		if have.name == k.name {
			return fmt.Errorf("line %d: key %q again (first on line %d); keep one of them", k.line, k.name, have.line)
		}
	}
	n.keys = append(n.keys, k)
	return nil
}
