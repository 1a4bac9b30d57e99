package gather

import (
	"context"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Layered is weights that come and go, and beside them some that stay on the device: those of an adapter, which are small.
type Layered struct {
	*autograd.Resident
	Base *Weights
}

// Acquire implements autograd.Weights.
func (l Layered) Acquire(ctx context.Context, unit int) error { return l.Base.Acquire(ctx, unit) }

// Release implements autograd.Weights.
func (l Layered) Release(unit int, gradsDone bool) { l.Base.Release(unit, gradsDone) }

// Value implements autograd.Weights.
func (l Layered) Value(p *autograd.Param) kernels.Tensor {
	if l.Base.Has(p) {
		return l.Base.Value(p)
	}
	return l.Resident.Value(p)
}

// Factor is Value: nothing is kept in a narrower type.
func (l Layered) Factor(p *autograd.Param) kernels.Tensor { return l.Value(p) }

// Grad implements autograd.Weights.
func (l Layered) Grad(p *autograd.Param) (kernels.Tensor, bool) {
	if l.Base.Has(p) {
		return l.Base.Grad(p)
	}
	return l.Resident.Grad(p)
}

// Learns implements autograd.Learner.
func (l Layered) Learns(p *autograd.Param) bool {
	if l.Base.Has(p) {
		return l.Base.Learns(p)
	}
	_, ok := l.Resident.Grad(p)
	return ok
}

// Start implements autograd.Starter.
func (l Layered) Start(p *autograd.Param) bool {
	if l.Base.Has(p) {
		return l.Base.Start(p)
	}
	return l.Resident.Start(p)
}

// Join implements autograd.Joiner: no two of these are one.
func (l Layered) Join(autograd.Few) *autograd.Param { return nil }
