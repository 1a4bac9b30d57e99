package autograd

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// Shape is rows and columns of a value that a host function makes.
type Shape struct{ Rows, Cols int }

// HostFunc is Go between device work: reductions across a tensor-parallel group, stage borders, objectives that need
// whole values. Slices are row-major and valid during the call alone.
type HostFunc struct {
	Forward  func(ctx context.Context, in, out [][]float32) error
	Backward func(ctx context.Context, dOut, dIn [][]float32) error // nil: no gradient passes
}

// Host puts f on the tape: the device waits for it in both directions.
func (t *Tape) Host(f HostFunc, in []Var, shapes ...Shape) []Var {
	outs, ys := make([]Var, len(shapes)), make([]kernels.Tensor, len(shapes))
	for i, s := range shapes {
		ys[i] = t.Alloc(s.Rows, s.Cols)
		outs[i] = Const(ys[i])
	}
	t.onHost(tensors(in), ys, f.Forward)
	want := false
	for _, v := range in {
		want = want || v.Wants()
	}
	if !want || !t.record || f.Backward == nil {
		return outs
	}
	for i := range outs {
		outs[i].id = int32(len(t.grads))
		t.grads = append(t.grads, slot{})
	}
	t.nodes = append(t.nodes, node{0, (*Tape).hostBack, kept{host: &hostCall{f, in, outs}}})
	return outs
}

// hostCall is what the backward pass of a host function needs.
type hostCall struct {
	HostFunc
	in, outs []Var
}

func (t *Tape) hostBack(n *node, _ kernels.Tensor) {
	f, in, outs := n.host.HostFunc, n.host.in, n.host.outs
	used := false
	for _, v := range outs {
		used = used || t.grads[v.id].set
	}
	if !used {
		return
	}
	dOut, dIn := make([]kernels.Tensor, len(outs)), make([]kernels.Tensor, len(in))
	for i, v := range outs {
		var mode kernels.Mode
		if dOut[i], mode = t.dst(v); mode == kernels.Set {
			t.S.Fill(dOut[i], 0)
		}
	}
	for i, v := range in {
		dIn[i] = t.Alloc(v.T.Rows, v.T.Cols)
	}
	t.onHost(dOut, dIn, f.Backward)
	for i, v := range in {
		if v.Wants() {
			d, mode := t.dst(v)
			t.S.Scale(d, dIn[i], 1, mode)
		}
	}
}

// onHost reads in, calls f and writes what it made to out.
func (t *Tape) onHost(in, out []kernels.Tensor, f func(ctx context.Context, in, out [][]float32) error) {
	if t.Err() != nil {
		return
	}
	hin, hout := hostCopies(in), hostCopies(out)
	for i, x := range in {
		x = t.wide(Const(x)).T
		if err := t.S.Download(hin[i], x); err != nil {
			t.Fail(err)
			return
		}
	}
	if err := f(t.ctx, hin, hout); err != nil {
		t.Fail(fmt.Errorf("host function: %w", err))
		return
	}
	for i, y := range out {
		t.S.Upload(y, hout[i])
	}
}

func hostCopies(ts []kernels.Tensor) [][]float32 {
	h := make([][]float32, len(ts))
	for i, x := range ts {
		h[i] = make([]float32, x.Len())
	}
	return h
}

func tensors(vs []Var) []kernels.Tensor {
	ts := make([]kernels.Tensor, len(vs))
	for i, v := range vs {
		ts[i] = v.T
	}
	return ts
}
