package peft

import (
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// DoRA (Liu et al. 2024, arXiv:2402.09353, eq. 5): W' = m ∘ (W + s·B·A) / ‖W + s·B·A‖ per output row, with the norm held
// constant in the backward pass (section 4.3). m starts as ‖W‖, so that nothing changes at first. Dropout acts on the
// way through A and B alone; the length of a row is that of the whole sum.

// renorm turns y, what W + s·B·A gives, into what W' gives.
func (l *LoRA) renorm(c *model.Ctx, lin *model.Linear, p *pair, y autograd.Var) autograd.Var {
	squares := c.RowSquares(lin.W, p.a, p.b, float32(l.Scale()), lin.InOut)
	return c.Magnitude(y, p.mag, lin.B, squares)
}

// lengths gives the norm of each row of the base's weight. The sum is the one that RowSquares makes, in float32 and in
// the order of the inputs, so that m/‖W‖ is exactly 1 where a backend adds in that order too.
func (l *LoRA) lengths(mag *autograd.Param, dst []float32) error {
	for lin, p := range l.pairs {
		if p.mag != mag {
			continue
		}
		w := make([]float32, lin.W.Len())
		if err := l.model.Read(lin.W, w); err != nil {
			return err
		}
		rowNorms(lin, w, dst)
		return nil
	}
	return fmt.Errorf("%s belongs to no layer", mag.Name)
}

func rowNorms(lin *model.Linear, w, dst []float32) {
	out, in := lin.Out(), lin.In()
	clear(dst)
	for i, x := range w {
		o := i / in
		if lin.InOut {
			o = i % out
		}
		dst[o] += float32(x * x)
	}
	for o, s := range dst {
		dst[o] = float32(math.Sqrt(float64(s)))
	}
}

// stretch gives row the length m; a row of zeros stays.
func stretch(row []float64, m float64) {
	var squares float64
	for _, x := range row {
		squares += x * x
	}
	if squares == 0 {
		return
	}
	f := m / math.Sqrt(squares)
	for i := range row {
		row[i] *= f
	}
}
