// Package autograd is a small tape over kernels' operations: run a model forward and the tape knows how to run it
// backward.
//
// Words. A Var is a value on the tape; one that wants a gradient has an id. A Param is a handle to a weight, never the
// weight itself: at each use the tape asks Weights for the tensor, between Acquire and Release of the weight's unit, so
// that resident, gathered, offloaded and quantized weights are implementations of one door. All activations are (N, C):
// N tokens of all sequences of a micro-batch, no padding.
//
// Gradients of activations carry a mode: the first writer sets, the rest add, so nothing is cleared. Gradients of
// parameters always add to what Weights.Grad gives. Backward runs the recorded nodes in reverse order, so every sum has
// one order.
//
// Memory comes from an arena that is rewound at the start of a micro-batch: the same shapes get the same addresses and
// nothing is allocated on the device after the first time. What the backward pass of a unit takes is taken back at the
// unit's end, but for gradients of values from before it, which have an arena of their own. The tape itself is data in
// slices that keep their size, so that a warm pass leaves the garbage collector alone. Where memory runs out the pass goes
// on doing nothing, and Err says so.
//
// Types. Compute is what products are computed in, and Stored what they and most other operations store their results as. The
// residual stream, statistics and gradients of parameters stay float32: a sum whose terms differ from an F32 one takes the
// wider type. A gradient has the type of its value.
//
// Concurrency. A Tape, its stream and its arena belong to one goroutine.
package autograd

import (
	"context"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Var is a value on the tape. The zero id means that no gradient is wanted.
type Var struct {
	T  kernels.Tensor
	id int32
}

// Const is a value that gets no gradient.
func Const(t kernels.Tensor) Var { return Var{T: t} }

// Input is a value that this pass was given and whose gradient is wanted: what comes from the stage before.
func (t *Tape) Input(x kernels.Tensor) Var {
	return t.made(x, true, (*Tape).nothing, kept{})
}

// nothing lies behind an input.
func (t *Tape) nothing(*node, kernels.Tensor) {}

// Wants says whether the tape will compute a gradient for v.
func (v Var) Wants() bool { return v.id != 0 }

// Tape records what a backward pass needs.
type Tape struct {
	S       *kernels.Stream
	W       Weights
	Compute dtype.Type // F32, BF16 or F16

	arena  *kernels.Arena
	older  *kernels.Arena // gradients that outlive the backward pass of a unit
	first  int32          // id of the first value of the unit that is running backward; 0: none is
	ctx    context.Context
	record bool
	nodes  []node
	grads  []slot // by Var id; entry 0 is never used
	parts  []Var  // of the splits of this pass
	err    error  // the first error of Acquire or of a host function
}

// node turns the finished gradient of the value id into gradients of what it was made of. It is data: back is a method of
// Tape, and what that needs lies beside it. A closure would say the same and be a thousand allocations per step.
type node struct {
	id   int32 // 0: run always (unit borders)
	back func(t *Tape, n *node, dy kernels.Tensor)
	kept
}

// kept is what an operation keeps for its backward pass; each uses a few of these.
type kept struct {
	x     [3]Var            // inputs
	w, b  *Param            // weights
	t     [2]kernels.Tensor // what forward made or was given besides: statistics, positions
	f     float32
	inOut bool // of a linear layer
	rope  kernels.Rope
	drop  kernels.Dropout
	attn  kernels.AttnSpec
	unit  *unit
	host  *hostCall
	cols  []Var // parts of a split
}

// slot is the gradient of one value.
type slot struct {
	t      kernels.Tensor
	set    bool // somebody has written it
	parent Var  // the value that this one is a column window of, if any
	col    int  // first column of the window
}

// slab is how much device memory the arena of older gradients takes at a time.
const slab = 1 << 20 // bytes

// New makes a tape. Begin starts a pass on it, Free gives its device memory back.
func New(s *kernels.Stream, w Weights, a *kernels.Arena) *Tape {
	return &Tape{S: s, W: w, arena: a, older: kernels.NewArena(s.Device(), slab), ctx: context.Background(), grads: make([]slot, 1)}
}

// Share lets the tape's arenas have slabs in common with others of its stream.
func (t *Tape) Share(s *kernels.Spare) {
	t.arena.Join(s)
	t.older.Join(s)
}

// Trim hands over what the pass does not need any more: with over, which ends it, all of it.
func (t *Tape) Trim(over bool) {
	if over {
		t.arena.Reset()
		t.older.Reset()
	}
	t.arena.Trim()
	t.older.Trim()
}

// Free gives back the memory of the arenas. A later Begin takes new memory.
func (t *Tape) Free() {
	t.arena.Free()
	t.older.Free()
}

// Begin forgets the last pass and rewinds the arena. With record false nothing is kept for a backward pass.
func (t *Tape) Begin(ctx context.Context, record bool) {
	t.ctx, t.record, t.err = ctx, record, nil
	t.nodes, t.grads, t.first = t.nodes[:0], t.grads[:1], 0
	t.parts = t.parts[:0]
	t.arena.Reset()
	t.older.Reset()
}

// Alloc returns memory that lives until the next Begin. Its contents are undefined.
func (t *Tape) Alloc(rows, cols int) kernels.Tensor { return t.arena.F32(rows, cols) }

// Stored is what results are stored as where products are computed in a type: that type, but F32 for F16. Its range is
// too short to keep gradients in, which a scaled loss brings to its upper end.
func Stored(compute dtype.Type) dtype.Type {
	if compute == dtype.F16 {
		return dtype.F32
	}
	return compute
}

// result is memory for what an operation makes of x.
func (t *Tape) result(x Var) kernels.Tensor {
	return t.arena.Tensor(Stored(t.Compute), x.T.Rows, x.T.Cols)
}

// sum is memory for what becomes of elements of a and b: the wider type.
func (t *Tape) sum(a, b Var) kernels.Tensor {
	typ := a.T.Type
	if b.T.Type == dtype.F32 {
		typ = dtype.F32
	}
	return t.arena.Tensor(typ, a.T.Rows, a.T.Cols)
}

// Ints returns memory for row indexes, lengths and positions, until the next Begin.
func (t *Tape) Ints(rows, cols int) kernels.Tensor { return t.arena.I32(rows, cols) }

// vars are n values of the pass. Where the slice behind them moves, earlier ones keep the old memory.
func (t *Tape) vars(n int) []Var {
	lo := len(t.parts)
	t.parts = append(t.parts, make([]Var, n)...)
	return t.parts[lo:len(t.parts):len(t.parts)]
}

// Fail makes err the tape's error unless it has one.
func (t *Tape) Fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Err is the first error of the pass so far: of the weights, of a host function, of memory or of the device. Commands
// that are still on their way may add one.
func (t *Tape) Err() error {
	if t.err == nil {
		t.err = t.S.Err()
	}
	return t.err
}

// Backward computes the gradients of everything out was made of, given the gradients dOut of out themselves. It is the
// same for a whole model and for a stage of one.
func (t *Tape) Backward(ctx context.Context, out []Var, dOut []kernels.Tensor) error {
	t.ctx = ctx
	for i, v := range out {
		if v.id != 0 {
			t.grads[v.id] = slot{t: dOut[i], set: true}
		}
	}
	t.unwind(0)
	return t.Err()
}

// Grad is the gradient of v after Backward, and whether anything contributed to it.
func (t *Tape) Grad(v Var) (kernels.Tensor, bool) {
	s := t.grads[v.id]
	return s.t, v.id != 0 && s.set
}

// unwind runs the nodes from the newest down to base in reverse and forgets them.
func (t *Tape) unwind(base int) {
	for i := len(t.nodes) - 1; i >= base && t.err == nil; i-- {
		n := &t.nodes[i]
		if n.id == 0 {
			n.back(t, n, kernels.Tensor{})
		} else if s := t.grads[n.id]; s.set { // else: nobody downstream depended on it
			n.back(t, n, s.t)
		}
	}
	clear(t.nodes[base:]) // they would keep what they point to alive
	t.nodes = t.nodes[:base]
}

// made wraps y as a new value; back is recorded with what it needs when a gradient is wanted.
func (t *Tape) made(y kernels.Tensor, want bool, back func(*Tape, *node, kernels.Tensor), k kept) Var {
	if !want || !t.record {
		return Var{T: y}
	}
	v := Var{T: y, id: int32(len(t.grads))}
	t.grads = append(t.grads, slot{})
	t.nodes = append(t.nodes, node{v.id, back, k})
	return v
}

// dst is where the gradient of v is to be written, and how. v must want one.
func (t *Tape) dst(v Var) (kernels.Tensor, kernels.Mode) {
	d := t.reserve(v)
	s := &t.grads[v.id]
	if s.set {
		return d, kernels.Add
	}
	s.set = true
	return d, kernels.Set
}

// reserve gives the gradient of v its memory without writing it.
func (t *Tape) reserve(v Var) kernels.Tensor {
	s := &t.grads[v.id]
	if s.t.Buf != nil {
		return s.t
	}
	switch {
	case s.parent.Wants():
		s.t = t.reserve(s.parent).SliceCols(s.col, s.col+v.T.Cols)
	case v.id < t.first:
		s.t = t.older.Tensor(v.T.Type, v.T.Rows, v.T.Cols)
	default:
		s.t = t.arena.Tensor(v.T.Type, v.T.Rows, v.T.Cols)
	}
	return s.t
}

// dstOrScratch is dst, or memory that nobody reads where v wants no gradient but the operation writes one.
func (t *Tape) dstOrScratch(v Var) (kernels.Tensor, kernels.Mode) {
	if v.id == 0 {
		return t.arena.Tensor(v.T.Type, v.T.Rows, v.T.Cols), kernels.Set
	}
	return t.dst(v)
}

// trained says whether p gets a gradient; a nil p does not.
func (t *Tape) trained(p *Param) bool {
	if p == nil || !t.record {
		return false
	}
	if l, is := t.W.(Learner); is {
		return l.Learns(p)
	}
	_, ok := t.W.Grad(p)
	return ok
}

// GradOf is where the gradient of p goes and how; the empty tensor where p gets none.
func (t *Tape) GradOf(p *Param) (kernels.Tensor, kernels.Mode) {
	if p == nil {
		return kernels.Tensor{}, kernels.Add
	}
	g, ok := t.W.Grad(p)
	if s, is := t.W.(Starter); ok && is && s.Start(p) {
		return g, kernels.Set
	}
	return g, kernels.Add
}

// sumOf is where the gradient of p is added, or the empty tensor.
func (t *Tape) sumOf(p *Param) kernels.Tensor {
	g, mode := t.GradOf(p)
	if mode == kernels.Set {
		t.S.Fill(g, 0)
	}
	return g
}

// Factor is p's tensor as a factor of products: a copy in the type that they are computed in, where there is one.
func (t *Tape) Factor(p *Param) kernels.Tensor {
	if f, ok := t.W.(interface{ Factor(p *Param) kernels.Tensor }); ok {
		return f.Factor(p)
	}
	return t.W.Value(p)
}

// valueOf is p's tensor, or the empty tensor.
func (t *Tape) valueOf(p *Param) kernels.Tensor {
	if p == nil {
		return kernels.Tensor{}
	}
	return t.W.Value(p)
}
