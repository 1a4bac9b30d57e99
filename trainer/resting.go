package trainer

import (
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/scratch"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// resting is an optimizer of a chunk whose state is on the device for the time of a step alone, and otherwise in files or in
// host memory (parallel.zero: 3 with parallel.offload). What a rule remembers has the same bits after it was read and
// written back, so the steps are those of an optimizer that stays.
type resting struct {
	rule   optim.Rule
	stream *kernels.Stream
	room   *scratch.Dir
	params []*autograd.Param
	n      int
	v      [2][]float32 // by slot; nil: not used
	err    error        // the first of a Step: streams only keep those of the device
}

func newResting(rule optim.Rule, s *kernels.Stream, room *scratch.Dir, params []*autograd.Param, n int) (*resting, error) {
	r := &resting{rule: rule, stream: s, room: room, params: params, n: n}
	m, v := rule.Uses()
	for slot, used := range [2]bool{optim.M: m, optim.V: v} {
		if !used {
			continue
		}
		x, err := room.Vector(n)
		if err != nil {
			r.Close()
			return nil, err
		}
		clear(x)
		r.v[slot] = x
	}
	return r, nil
}

// Step implements optim.Optimizer.
func (r *resting) Step(now optim.Now, w, g kernels.Tensor, lo, hi int) {
	r.err = errors.Join(r.err, r.step(now, w, g, lo, hi))
}

func (r *resting) step(now optim.Now, w, g kernels.Tensor, lo, hi int) error {
	o, err := r.rule.Open(r.stream, r.params, r.n)
	if err != nil {
		return fmt.Errorf("memory to step a chunk: %w", err)
	}
	for slot, v := range r.v {
		if v != nil {
			o.Write(optim.Slot(slot), v)
		}
	}
	o.Step(now, w, g, lo, hi)
	for slot, v := range r.v {
		if v != nil {
			err = errors.Join(err, o.Read(optim.Slot(slot), 0, v))
		}
	}
	o.Close()
	return err
}

// Read implements optim.Optimizer.
func (r *resting) Read(slot optim.Slot, lo int, dst []float32) error {
	clear(dst)
	if v := r.v[slot]; v != nil {
		copy(dst, v[lo:])
	}
	return nil
}

// Write implements optim.Optimizer.
func (r *resting) Write(slot optim.Slot, src []float32) { copy(r.v[slot], src) }

// CopyFrom implements optim.Optimizer.
func (r *resting) CopyFrom(o optim.Optimizer) {
	for slot, v := range o.(*resting).v {
		copy(r.v[slot], v)
	}
	r.err = nil
}

// Close implements optim.Optimizer.
func (r *resting) Close() {
	for slot, v := range r.v {
		r.room.Free(v)
		r.v[slot] = nil
	}
}
