package trainer

import (
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/plan"
)

// Costs is what a job costs, for a plan: told from the descriptions of its model and adapter alone. Where the spec has no
// sequence_len, rows are taken to have as many tokens as given; 0: 512, or as many as the model takes.
func Costs(spec *job.Spec, files, adapter model.Files, tokens int) (j plan.Job, err error) {
	p, err := open(spec, files, adapter)
	if err != nil {
		return j, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	most := p.model.Config.MaxPos
	switch {
	case spec.SequenceLen > 0:
		tokens = min(spec.SequenceLen, most) // rows are never longer than the model takes
	case tokens == 0:
		tokens = min(rowTokens, most)
	}
	if tokens < 1 || tokens > most {
		return j, fmt.Errorf("rows of %d tokens, and the model takes 1 to %d", tokens, most)
	}
	return p.costs(spec, tokens), nil
}

func (p *parts) costs(spec *job.Spec, tokens int) plan.Job {
	c := p.model.Config
	k := &costing{parts: p, tokens: tokens, stored: dtype.F32.Bits() / 8, learns: map[*autograd.Param]bool{}}
	j := plan.Job{Units: make([]plan.Unit, p.model.Row()), Hidden: c.Hidden, Vocab: c.Vocab, Tokens: tokens * spec.MicroBatchSize,
		Micros: max(1, (spec.GlobalBatchSize+spec.MicroBatchSize-1)/spec.MicroBatchSize), Rerun: spec.GradientCheckpointing, Adapter: p.adapter != nil,
		PerLearned: 8, OnHost: 12, Stream: wireBytes(spec.Wire.Activations, 2), Gradient: wireBytes(spec.Wire.Gradients, 4)}
	if stored := autograd.Stored(computed(spec)); stored != dtype.F32 {
		k.stored = stored.Bits() / 8
		j.PerLearned += k.stored
	}
	j.State = stateBytes(spec)
	j.PerLearned += j.State
	if spec.Parallel.Sync == job.DiLoCo {
		j.Every = spec.Parallel.InnerSteps
	}
	for _, q := range p.trained {
		k.learns[q] = true
	}
	for i := range j.Units {
		j.Units[i] = k.passing(i)
	}
	k.weights(&j)
	return j
}

// wireBytes are those of an element in a form.
func wireBytes(form string, otherwise float64) float64 {
	switch form {
	case job.FP32:
		return 4
	case job.BF16:
		return 2
	case "int8":
		return 1 + 4.0/128
	}
	return otherwise
}

// stateBytes are what the optimizer keeps of an element.
func stateBytes(spec *job.Spec) int {
	r := rule(spec)
	m, v := r.Uses()
	each := 4
	if r.Grain(1<<10, 1<<10) > 1 { // elements share state: 8-bit moments, or factors
		each = 1
	}
	n := 0
	if m {
		n += each
	}
	if v {
		n += each
	}
	return n
}

// costing counts.
type costing struct {
	*parts
	tokens int // of a sequence
	stored int // bytes of a stored result and of a frozen matrix's element
	learns map[*autograd.Param]bool
}

// weights adds what weights take, and what products with them cost.
func (k *costing) weights(j *plan.Job) {
	all := append([]*autograd.Param(nil), k.model.Params...)
	if k.adapter != nil {
		for _, q := range k.adapter.Weights() {
			if !modelHas(k.model, q) {
				all = append(all, q)
			}
		}
	}
	last := len(j.Units) - 1
	for _, q := range all {
		u := &j.Shared
		if q.Unit <= last {
			u = &j.Units[q.Unit]
		}
		if k.learns[q] {
			u.Learns += int64(q.Len())
		} else if len(q.Shape) == 2 {
			u.Frozen += int64(q.Len() * k.stored)
		} else {
			u.Frozen += int64(4 * q.Len())
		}
		if q.Kind == autograd.Embedding && !q.Tied || len(q.Shape) < 2 {
			continue // looked up, or added
		}
		if q.Tied {
			u = &j.Units[last]
		}
		flop := 2 * float64(q.Len())
		u.Forward, u.Back = u.Forward+flop, u.Back+flop
		if k.learns[q] {
			u.Back += flop
		}
	}
}

func modelHas(m *model.Model, p *autograd.Param) bool {
	for _, q := range m.Params {
		if p == q {
			return true
		}
	}
	return false
}

// passing is what a token takes in a unit besides weights. Of a block it keeps what each of its operations gave: norms,
// queries, keys and values, turned and not, attention, three times the feed-forward width; and both sums in float32.
func (k *costing) passing(unit int) (u plan.Unit) {
	c := k.model.Config
	hidden, e := int64(c.Hidden), int64(k.stored)
	switch unit {
	case 0:
		u.Keep, u.Work = 4*hidden, 4*hidden
		return u
	case k.model.Row() - 1:
		u.Keep, u.Work = (4+e)*hidden, 8*hidden+4
		return u
	}
	wide, narrow := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	u.Keep = e*(4*hidden+3*wide+3*narrow+3*int64(c.Inner)) + 8*hidden + 4*int64(c.Heads+2)
	if k.adapter != nil {
		u.Keep += e * (2*hidden + 2*wide) // what goes into and out of its own layers; small ranks count little
	}
	u.Work = u.Keep // gradients of the same values, a block at a time
	seen := k.tokens
	if w := c.Windows[unit-1]; w > 0 {
		seen = min(seen, w)
	}
	attend := 2 * float64(seen) * float64(wide) // both products, over half of the keys on average
	u.Forward, u.Back = attend, 2.5*attend
	return u
}
