package optim

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Adafactor is Shazeer and Stern 2018 (arXiv:1804.04235), algorithm 5, without momentum and with the learning rate that
// it is given, neither relative to the step nor to the weights: second moments of a matrix are kept as means of its rows
// and columns, and the update is scaled down to a root mean square of 1. Vectors have second moments of their elements.
//
// Of a matrix that lies at [lo, hi) of the index space M holds the rows' means from lo on, then the columns'.
type Adafactor struct {
	Eps float64 // added to squares
	Decay
}

const (
	factorDecay = -0.8 // β at step t is 1 - t to this power (section 7.2)
	factorLimit = 1.0  // root mean square of an update (section 6)
)

// Grain is the whole tensor.
func (a Adafactor) Grain(rows, cols int) int { return rows * cols }

func (a Adafactor) Uses() (m, v bool) { return true, false }

func (a Adafactor) Open(s *kernels.Stream, params []*autograd.Param, _ int) (Optimizer, error) {
	f := &factored{memory: memory{s: s}, rule: a}
	n := 0
	for _, p := range params {
		t := factors{off: p.Off, rows: p.Rows, cols: p.Cols, at: n, decays: a.decays(p)}
		f.tensors = append(f.tensors, t)
		n += t.len()
	}
	var err error
	if f.state, err = f.take(dtype.F32, max(n, 1)); err == nil {
		f.now, err = f.numbers()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// factored is Adafactor with its state.
type factored struct {
	memory
	rule    Adafactor
	tensors []factors
	state   kernels.Tensor // (1, all of theirs)
	now     numbers
}

// factors is a (rows, cols) tensor from off on, and where its state begins.
type factors struct {
	off, rows, cols, at int
	decays              bool
}

// matrix: means of rows and columns are fewer than elements, or at least no more.
func (t factors) matrix() bool { return t.rows > 1 && t.cols > 1 }

// len is the length of the state.
func (t factors) len() int {
	if t.matrix() {
		return t.rows + t.cols
	}
	return t.rows * t.cols
}

func (a Adafactor) hyper(n Now, decays bool) []float64 {
	rest := math.Pow(float64(n.Step), factorDecay)
	return []float64{n.Clip, 1 - n.LR*a.of(decays), 1 - rest, rest, a.Eps, factorLimit, n.LR}
}

func (f *factored) Step(n Now, w, g kernels.Tensor, lo, hi int) {
	now := f.now.put(f.s, func(decays bool) []float64 { return f.rule.hyper(n, decays) })
	for _, t := range f.tensors {
		end := t.off + t.rows*t.cols
		if end <= lo || t.off >= hi {
			continue
		}
		if t.off < lo || end > hi {
			panic("optim: a range that cuts a tensor of Adafactor")
		}
		cut := func(x kernels.Tensor) kernels.Tensor { return x.SliceCols(t.off, end).Reshape(t.rows, t.cols) }
		r, c := f.state.SliceCols(t.at, t.at+t.len()), kernels.Tensor{}
		if t.matrix() {
			r, c = r.SliceCols(0, t.rows), r.SliceCols(t.rows, t.len())
		} else {
			r = r.Reshape(t.rows, t.cols)
		}
		f.s.Adafactor(cut(w), cut(g), r, c, now.of(t.decays))
	}
}

func (f *factored) CopyFrom(o Optimizer) { f.s.Copy(f.state, o.(*factored).state) }

func (f *factored) Read(slot Slot, lo int, dst []float32) error {
	clear(dst)
	if slot != M {
		return nil
	}
	for _, t := range f.tensors {
		from, to := max(lo, t.off), min(lo+len(dst), t.off+t.len())
		if from >= to {
			continue
		}
		at := t.at - t.off
		if err := f.s.Download(dst[from-lo:to-lo], f.state.SliceCols(from+at, to+at)); err != nil {
			return err
		}
	}
	return nil
}

func (f *factored) Write(slot Slot, src []float32) {
	if slot != M {
		return
	}
	for _, t := range f.tensors {
		f.s.Upload(f.state.SliceCols(t.at, t.at+t.len()), src[t.off:t.off+t.len()])
	}
}
