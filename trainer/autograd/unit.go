package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// unit is a part of the model as the backward pass sees it.
type unit struct {
	units []int
	f     func(Var) Var
	first int32        // id of its first value
	mark  kernels.Mark // where its backward pass began to take memory
}

// Unit runs f with the weights of the named units at hand, in this pass and again in the backward pass. Without
// recording, a unit that keeps the shape of its input (the residual stream) keeps the memory of its result alone. x is
// the empty Var for a unit that makes its input itself. After an error units do nothing.
func (t *Tape) Unit(x Var, units []int, f func(Var) Var) Var {
	if !t.record && !x.T.None() {
		return t.forget(x, units, f)
	}
	if !t.acquire(units) {
		return x
	}
	if !t.record {
		defer t.release(units, false)
		return f(x)
	}
	// The end of the unit forward is its beginning backward, and the other way round.
	u := &unit{units: units, f: f, first: int32(len(t.grads))}
	base := len(t.nodes)
	t.nodes = append(t.nodes, node{0, (*Tape).leave, kept{unit: u}})
	y := f(x)
	if len(t.nodes) == base+1 { // nothing in it has a gradient, so nobody needs its weights on the way back
		t.nodes = t.nodes[:base]
	} else {
		t.nodes = append(t.nodes, node{0, (*Tape).enter, kept{unit: u}})
	}
	t.release(units, false)
	return y
}

func (t *Tape) enter(n *node, _ kernels.Tensor) {
	t.acquire(n.unit.units)
	t.first, n.unit.mark = n.unit.first, t.arena.Mark()
}

func (t *Tape) leave(n *node, _ kernels.Tensor) {
	t.arena.Release(n.unit.mark)
	t.first = 0
	t.release(n.unit.units, true)
}

// Checkpoint is Unit that keeps only the input and the output and computes the rest again in the backward pass
// (Chen et al. 2016, arXiv:1604.06174). The output has the input's shape: it is the residual stream.
func (t *Tape) Checkpoint(x Var, units []int, f func(Var) Var) Var {
	y := t.forget(x, units, f)
	if !t.record || t.Err() != nil {
		return y
	}
	return t.made(y.T, true, (*Tape).again, kept{x: [3]Var{x}, unit: &unit{units: units, f: f}})
}

// forget runs f without recording and keeps nothing but a copy of its result.
func (t *Tape) forget(x Var, units []int, f func(Var) Var) Var {
	if !t.acquire(units) {
		return x
	}
	keep := t.Alloc(x.T.Rows, x.T.Cols)
	mark, record := t.arena.Mark(), t.record
	t.record = false
	t.S.Copy(keep, f(Const(x.T)).T)
	t.record = record
	t.arena.Release(mark)
	t.release(units, false)
	return Const(keep)
}

// again records f once more on top of the tape, runs that part backward and forgets it.
func (t *Tape) again(n *node, dy kernels.Tensor) {
	x, units, f := n.x[0], n.unit.units, n.unit.f
	if !t.acquire(units) {
		return
	}
	mark, base, ids := t.arena.Mark(), len(t.nodes), len(t.grads)
	t.first = int32(ids)
	y := f(x)
	if y.Wants() {
		t.grads[y.id] = slot{t: dy, set: true}
	}
	t.unwind(base)
	t.grads, t.first = t.grads[:ids], 0
	t.arena.Release(mark)
	t.release(units, true)
}

func (t *Tape) acquire(units []int) bool {
	if t.Err() != nil {
		return false
	}
	for _, u := range units {
		if err := t.W.Acquire(t.ctx, u); err != nil {
			t.Fail(err)
			return false
		}
	}
	return true
}

func (t *Tape) release(units []int, gradsDone bool) {
	for i := len(units) - 1; i >= 0; i-- {
		t.W.Release(units[i], gradsDone)
	}
}
