package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// whole is what a member of a pipeline knows of all of the job (Config.Whole): the weights that learn, over the job's index
// space, in host memory. On the device lies its part alone: what is frozen there, and a copy of what learns. So commits,
// checkpoints and exports are those of any job, and a member may be given another part between two rounds.
//
// Optimizer state is with the owners of chunks, who are any of the members. The trainer's lock guards all of it.
type whole struct {
	w    []float32
	lent bool // an evaluation reads w: it is not written any more, changes are made to a copy
}

// zeroLevel is what the job cuts among members. In a pipeline owners always step: a member holds the gradient of its own
// part alone.
func zeroLevel(spec *job.Spec, trained []*autograd.Param) int {
	if p := spec.Parallel.Pipeline; p != "" && p != "1" {
		return 2
	}
	return spec.ZeroLevel(int64(elements(trained)) * 4)
}

func (t *Trainer) checkWhole() error {
	switch {
	case !t.owners:
		return errors.New("a member keeps the whole state and computes a part of it where owners step alone; set parallel.pipeline, or parallel.zero: 2")
	case t.line == nil:
		return errors.New("a part of a model needs a line to the others")
	case t.spec.Parallel.Sync == job.DiLoCo || t.offloads() || t.zero > 2:
		return errors.New("parallel.sync: diloco, parallel.offload and zero: 3 go with the whole model on each member; leave them out, or pipeline: 1")
	case curves(t.rule):
		return errors.New("optimizer sophia needs the whole model on each member; choose another optimizer, or pipeline: 1")
	}
	return t.checkUnits(t.part)
}

func (t *Trainer) checkUnits(p model.Part) error {
	if p != (model.Part{}) && (p.Lo < 0 || p.Hi <= p.Lo || p.Hi > t.model.Row()) {
		return fmt.Errorf("units %d to %d of a model of %d", p.Lo, p.Hi, t.model.Row())
	}
	return nil
}

// loadWhole reads what all that learns starts from, and puts the part on the device.
func (t *Trainer) loadWhole(dev kernels.Device) (err error) {
	t.whole.w = make([]float32, t.elems)
	for _, p := range t.trained {
		if err := t.starting(p, t.whole.w[p.Off:][:p.Len()]); err != nil {
			return fmt.Errorf("what %s starts from: %w", p.Name, err)
		}
	}
	if t.owned, err = newOwned(dev, &t.parts, t.rule, t.spec.Wire.Gradients != "fp32"); err != nil {
		return err
	}
	return t.hold(t.part)
}

// starting reads what a weight that learns starts from.
func (t *Trainer) starting(p *autograd.Param, dst []float32) error {
	if t.adapter != nil {
		return t.adapter.Read(p, dst)
	}
	return t.model.Read(p, dst)
}

// Part is what this member computes; the zero Part, with Config.Whole, is nothing.
func (t *Trainer) Part() model.Part {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.part
}

// Repart replaces the part that this member computes, and keeps all state; the zero Part is none. What is frozen in
// the new one is read from the model's files, after the memory of the old one was given back. A round of the old part
// that is under way ends with ErrAttempt. After an error the member holds none. It is an error without Config.Whole.
func (t *Trainer) Repart(ctx context.Context, p model.Part) error {
	if t.whole == nil {
		return errors.New("this trainer computes the same units for ever: it was made without Config.Whole")
	}
	if err := t.lock(); err != nil {
		return err
	}
	defer t.mu.Unlock()
	if err := errors.Join(t.checkUnits(p), ctx.Err()); err != nil {
		return err
	}
	if p == t.part {
		return nil
	}
	if t.stage != nil {
		t.stage.Close()
		t.stage, t.part = nil, model.Part{}
	}
	t.host = buffers{n: t.layout.Size} // contributions are zero outside the old part alone
	return t.hold(p)
}

// hold puts a part on the device. The trainer holds none.
func (t *Trainer) hold(p model.Part) (err error) {
	t.part = model.Part{}
	if p == t.part {
		return nil
	}
	var a stage.Adapter
	if t.adapter != nil {
		a = t.adapter
	}
	if t.stage, err = stage.NewBare(computed(t.spec), t.dev, t.model, a, t.trained, p); err != nil {
		t.stage = nil
		return fmt.Errorf("units %d to %d: %w", p.Lo, p.Hi, err)
	}
	t.part = p
	t.dress()
	return t.place()
}

// place copies the part's weights to the device.
func (t *Trainer) place() error {
	s := t.stage
	if s == nil {
		return nil
	}
	s.Changed()
	for _, sp := range s.Spans {
		s.Stream.Upload(s.W.SliceCols(sp.At, sp.At+sp.Hi-sp.Lo), t.whole.w[sp.Lo:sp.Hi])
	}
	return s.Stream.Sync(context.Background())
}

// spread copies the part's gradient to its places in a contribution, which is zero elsewhere.
func (t *Trainer) spread(u []float32) error {
	s := t.stage
	for _, sp := range s.Spans {
		if err := s.Stream.Download(u[sp.Lo:sp.Hi], s.G.SliceCols(sp.At, sp.At+sp.Hi-sp.Lo)); err != nil {
			return err
		}
	}
	return nil
}

// keepWhole comes before every change of the weights.
func (t *Trainer) keepWhole() {
	if t.whole.lent {
		t.whole.w, t.whole.lent = slices.Clone(t.whole.w), false
	}
}

// wholeState lists the vectors of the state that lie here.
func (t *Trainer) wholeState(s *State) []stateVector {
	return []stateVector{{&s.W,
		func(lo int, dst []float32) error { copy(dst, t.whole.w[lo:]); return nil },
		func(src []float32) { copy(t.whole.w, src) }}}
}

// wholeWeights are elements [lo, hi) of the weights that all share, on the device until something is stepped.
func (t *Trainer) wholeWeights(lo, hi int) kernels.Tensor {
	w := t.owned.scratch[1].SliceCols(0, hi-lo)
	t.owned.stream.Upload(w, t.whole.w[lo:hi])
	return w
}

// putShared makes what all members share of a step, weights or where that is rounded their change, the weights of now.
func (t *Trainer) putShared(shared []float32) error {
	switch {
	case t.whole != nil:
		takeShared(t.whole.w, shared, t.owned.lossy)
		return t.place()
	case t.away != nil:
		takeShared(t.away.w, shared, t.owned.lossy)
		return nil
	}
	s := t.stage
	if t.owned.lossy {
		s.Stream.Upload(s.G, shared)
		s.Stream.Add(s.W, s.W, s.G)
	} else {
		s.Stream.Upload(s.W, shared)
	}
	return s.Stream.Sync(context.Background())
}

// takeShared is putShared for weights in host memory.
func takeShared(w, shared []float32, changes bool) {
	if !changes {
		copy(w, shared)
		return
	}
	for i, d := range shared {
		w[i] += d
	}
}
