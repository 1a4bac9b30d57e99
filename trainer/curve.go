package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// An optimizer that wants estimates of the curvature gets them from a second gradient, of labels that the model draws.
// It has to be summed over the whole batch before it is squared, so it travels with the first: contributions are twice
// as long, and in steps without an estimate their second half is zero. The norm by which gradients are clipped is that
// of the first half alone; everybody computes it from the gradient that all share.

// curves reports whether a rule wants estimates.
func curves(r optim.Rule) bool {
	_, ok := r.(optim.Sophia)
	return ok
}

// curvature is the layout's second half: the same tensors in the same order, in units of their own.
func curvature(trained []*autograd.Param) []layout.Param {
	var ps []layout.Param
	units := 0
	if n := len(trained); n > 0 {
		units = trained[n-1].Unit + 1
	}
	for _, q := range trained {
		ps = append(ps, layout.Param{Name: "curvature of " + q.Name, Unit: units + q.Unit, Rows: q.Rows, Cols: q.Cols})
	}
	return ps
}

// curved is the device's part in it.
type curved struct {
	every uint64         // steps between estimates; 0: none
	opt   optim.Curved   // of the whole; nil where owners step
	drawn kernels.Tensor // (1, elements) gradient of drawn labels
}

func (t *Trainer) openCurved(dev kernels.Device) (err error) {
	rule, ok := t.rule.(optim.Sophia)
	if !ok {
		return nil
	}
	t.curved.every = uint64(rule.Every)
	if t.curved.drawn, err = kernels.Alloc(dev, dtype.F32, 1, t.elems); err != nil {
		return fmt.Errorf("gradient of the curvature: %w", err)
	}
	t.curved.opt, _ = t.opt.(optim.Curved)
	return nil
}

// due reports whether a step begins with an estimate.
func (t *Trainer) due(step uint64) bool {
	return t.curved.every != 0 && (step-1)%t.curved.every == 0
}

// draw leaves the summed gradient of labels that are drawn for the samples in curved.drawn, if the step wants it.
func (t *Trainer) draw(ctx context.Context, step uint64, samples []uint64) error {
	if !t.due(step) || len(samples) == 0 {
		return nil
	}
	t.stage.ZeroGrad()
	for micro := range slices.Chunk(samples, t.spec.MicroBatchSize) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.fill(ctx, micro); err != nil {
			return err
		}
		if _, err := t.stage.Curve(ctx, t.spec.Seed, step, t.feed.seqs); err != nil {
			return err
		}
	}
	t.reduce(t.stage.G)
	t.stage.Stream.Copy(t.curved.drawn, t.stage.G)
	return nil
}

// download copies both halves of a contribution to the host.
func (t *Trainer) download(step uint64, u []float32) error {
	s := t.stage.Stream
	if err := t.coded.download(s, u[:t.elems], t.stage.G, t.layout.Chunks); err != nil {
		return err
	}
	if t.due(step) {
		return s.Download(u[t.elems:], t.curved.drawn)
	}
	clear(u[t.elems:])
	return nil
}

// upload puts both halves of a reduced gradient on the device.
func (t *Trainer) upload(step uint64, g []float32) {
	s := t.stage.Stream
	s.Upload(t.stage.G, g[:t.elems])
	if t.due(step) {
		s.Upload(t.curved.drawn, g[t.elems:])
	}
}

// bend estimates the curvature and corrects the norm, which the totals give of both halves.
func (t *Trainer) bend(r *StepReport) error {
	if t.curved.opt == nil {
		return nil
	}
	if t.due(r.Step) {
		t.curved.opt.Curve(t.curved.drawn, r.Tokens)
	}
	sum, err := t.sumSq(t.stage.G)
	r.GradNorm = math.Sqrt(sum)
	return err
}
