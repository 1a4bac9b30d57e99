package trainer

import "github.com/seed-7b27c88a/shoal/shard/scratch"

// maxLive is how many contributions of one round are remembered for later rounds: those of a round that goes well on its
// first attempts. A round that is attempted more often leaves the others to the garbage collector, so that it holds no
// more than what the collective itself keeps.
const maxLive = 4

// buffers are a trainer's vectors over the index space in host memory, or in files.
//
// A contribution belongs to the collective until its round is over. When a round is left instead, whoever has it may
// read it until some later round is over: it is forgotten here, or in files left alone until then. The trainer's lock guards all of it.
type buffers struct {
	n    int          // elements
	room *scratch.Dir // nil: memory
	free [][]float32
	live [][]float32 // of the round that is not over
	left [][]float32 // of rounds that were left, in files
	g    []float32
	zero []float32

	after []float32 // chunks that were stepped last, each at its place
}

// vector is room for one. A disk that is full by now costs memory, not the job.
func (b *buffers) vector() []float32 {
	v, err := b.room.Vector(b.n)
	if err != nil {
		return make([]float32, b.n)
	}
	return v
}

// contribution is a vector that stays untouched until the round is over.
func (b *buffers) contribution() []float32 {
	var u []float32
	if n := len(b.free); n > 0 {
		u, b.free = b.free[n-1], b.free[:n-1]
	} else {
		u = b.vector()
	}
	if len(b.live) < maxLive || b.room != nil {
		b.live = append(b.live, u)
	}
	return u
}

// over takes the contributions back.
func (b *buffers) over() {
	b.free = append(append(b.free, b.live...), b.left...)
	b.live, b.left = b.live[:0], nil
}

// abandon forgets the contributions: the round was left.
func (b *buffers) abandon() {
	if b.room != nil {
		b.left = append(b.left, b.live...)
	}
	b.live = nil
}

// zeros is the contribution of no positions. Nobody ever writes to it.
func (b *buffers) zeros() []float32 {
	if b.zero == nil {
		b.zero = b.vector()
		clear(b.zero)
	}
	return b.zero
}

// gradient is where a round's result goes; a round is over before the next asks for it.
func (b *buffers) gradient() []float32 {
	if b.g == nil {
		b.g = b.vector()
	}
	return b.g
}

// stepped is where a chunk goes that was stepped, until it is stepped again.
func (b *buffers) stepped(lo, hi int) []float32 {
	if b.room == nil { // in memory there is to be room for this member's own chunks alone
		return make([]float32, hi-lo)
	}
	if b.after == nil {
		b.after = b.vector()
	}
	return b.after[lo:hi]
}
