package optim

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// elementwise is a rule whose elements know nothing of each other, with float32 state.
type elementwise interface {
	Uses() (m, v bool)
	Segments(params []*autograd.Param) []Segment
	// hyper is the numbers of a step for one decay class, in the order that step's kernel wants.
	hyper(n Now, decays bool) []float64
	step(s *kernels.Stream, w, g, m, v, hyper kernels.Tensor)
}

// flat is the optimizer of an elementwise rule: vectors of the index space's length, stepped in long runs.
type flat struct {
	memory
	rule elementwise
	segs []Segment
	m, v kernels.Tensor // none where the rule does not use it
	now  numbers
}

func openFlat(s *kernels.Stream, rule elementwise, params []*autograd.Param, elems int) (Optimizer, error) {
	f, err := newFlat(s, rule, params, elems)
	if err != nil {
		return nil, err // and no nil inside an interface
	}
	return f, nil
}

func newFlat(s *kernels.Stream, rule elementwise, params []*autograd.Param, elems int) (*flat, error) {
	f := &flat{memory: memory{s: s}, rule: rule, segs: rule.Segments(params)}
	if err := f.fill(elems); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *flat) fill(elems int) (err error) {
	m, v := f.rule.Uses()
	if m && elems > 0 {
		if f.m, err = f.take(dtype.F32, elems); err != nil {
			return err
		}
	}
	if v && elems > 0 {
		if f.v, err = f.take(dtype.F32, elems); err != nil {
			return err
		}
	}
	f.now, err = f.numbers()
	return err
}

func (f *flat) Step(n Now, w, g kernels.Tensor, lo, hi int) {
	now := f.now.put(f.s, func(decays bool) []float64 { return f.rule.hyper(n, decays) })
	for _, seg := range f.segs {
		lo, hi := max(lo, seg.Lo), min(hi, seg.Hi)
		if lo < hi {
			f.rule.step(f.s, window(w, lo, hi), window(g, lo, hi), window(f.m, lo, hi), window(f.v, lo, hi), now.of(seg.Decay))
		}
	}
}

// window is elements [lo, hi) of a vector, or none of none.
func window(t kernels.Tensor, lo, hi int) kernels.Tensor {
	if t.None() {
		return t
	}
	return t.SliceCols(lo, hi)
}

func (f *flat) CopyFrom(o Optimizer) { f.copyFrom(o.(*flat)) }

func (f *flat) copyFrom(o *flat) {
	for _, slot := range []Slot{M, V} {
		if t := f.slot(slot); !t.None() {
			f.s.Copy(t, o.slot(slot))
		}
	}
}

func (f *flat) slot(slot Slot) kernels.Tensor {
	if slot == M {
		return f.m
	}
	return f.v
}

func (f *flat) Read(slot Slot, lo int, dst []float32) error {
	t := f.slot(slot)
	if t.None() {
		clear(dst)
		return nil
	}
	return f.s.Download(dst, t.SliceCols(lo, lo+len(dst)))
}

func (f *flat) Write(slot Slot, src []float32) {
	if t := f.slot(slot); !t.None() {
		f.s.Upload(t, src)
	}
}
