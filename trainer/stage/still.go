package stage

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Still is a stage's weights of one moment, so that they can be measured while training goes on. It costs nothing until
// they change: whoever changes them calls Keep first.
type Still struct {
	stage *Stage
	kept  *autograd.Resident // nil: the stage's own weights still are what they were
	buf   *kernels.Buffer    // of the copy
}

// Still is the weights of now. Release it before the stage is closed.
func (s *Stage) Still() *Still { return &Still{stage: s} }

// Keep copies what is trained, unless that was done before.
func (k *Still) Keep() error {
	s := k.stage
	if k.kept != nil || s.W.None() {
		return nil
	}
	w, err := kernels.Alloc(s.Stream.Device(), dtype.F32, 1, s.W.Cols)
	if err != nil {
		return fmt.Errorf("keep the weights that are being measured: %w", err)
	}
	s.Stream.Copy(w, s.W)
	k.kept, k.buf = s.weights.With(s.Train, w), w.Buf
	return nil
}

// Release gives the copy's memory back. The Still is not to be used afterwards.
func (k *Still) Release() {
	if k.buf == nil {
		return
	}
	_ = k.stage.Stream.Sync(context.Background()) // what is under way still reads it
	kernels.Free(k.stage.Stream.Device(), k.buf)
	k.kept, k.buf = nil, nil
}

// door is where a pass finds the weights.
func (k *Still) door() autograd.Weights {
	switch {
	case k.kept == nil:
		return k.stage.door
	case k.stage.base != nil:
		return gather.Layered{Resident: k.kept, Base: k.stage.base}
	}
	return k.kept
}

// Best is the token that the weights of a Still find most likely after a sequence of one pass.
func (s *Stage) Best(ctx context.Context, k *Still, q model.Sequence) (int32, error) {
	q.Target = make([]int32, len(q.IDs)) // any target will do: the most likely token does not depend on it
	if _, err := s.Eval(ctx, k, []model.Sequence{q}); err != nil {
		return 0, err
	}
	return s.host.best[len(s.host.best)-1], nil
}
