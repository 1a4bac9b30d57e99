package trainer

// maxLive is how many contributions of one round are remembered for later rounds: those of a round that goes well on its
// first attempts. A round that is attempted more often leaves the others to the garbage collector, so that it holds no
// more than what the collective itself keeps.
const maxLive = 4

// buffers are a trainer's vectors over the index space in host memory.
//
// A contribution belongs to the collective until its round is over. When a round is left instead, whoever has it may
// read it as long as it likes: it is forgotten here, never used again. The trainer's lock guards all of it.
type buffers struct {
	n    int // elements
	free [][]float32
	live [][]float32 // of the round that is not over
	g    []float32
	zero []float32
}

// contribution is a vector that stays untouched until the round is over.
func (b *buffers) contribution() []float32 {
	var u []float32
	if n := len(b.free); n > 0 {
		u, b.free = b.free[n-1], b.free[:n-1]
	} else {
		u = make([]float32, b.n)
	}
	if len(b.live) < maxLive {
		b.live = append(b.live, u)
	}
	return u
}

// over takes the contributions back.
func (b *buffers) over() {
	b.free = append(b.free, b.live...)
	b.live = b.live[:0]
}

// abandon forgets the contributions: the round was left.
func (b *buffers) abandon() { b.live = nil }

// zeros is the contribution of no positions. Nobody ever writes to it.
func (b *buffers) zeros() []float32 {
	if b.zero == nil {
		b.zero = make([]float32, b.n)
	}
	return b.zero
}

// gradient is where a round's result goes; a round is over before the next asks for it.
func (b *buffers) gradient() []float32 {
	if b.g == nil {
		b.g = make([]float32, b.n)
	}
	return b.g
}
