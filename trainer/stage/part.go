package stage

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// Span says that elements [Lo, Hi) of the job's index space lie from element At on in W and G.
type Span struct{ Lo, Hi, At int }

// extent is what a stage holds of a job.
type extent struct {
	part   model.Part
	elems  int   // of W
	places []int // of what is trained here, in W; nil: at their Off
	spans  []Span
	before bool

	later    bool                                         // what learns has no values until somebody writes W
	values   func(p *autograd.Param, dst []float32) error // of the adapter; nil: it reads its own
	source   gather.Source                                // of the model's weights, where they do not stay on the device
	gathered []*autograd.Param
}

// whole is all of it.
func whole(m *model.Model, elems int) extent {
	return extent{part: model.Part{Hi: m.Row()}, elems: elems, spans: []Span{{Hi: elems}}}
}

// NewPart is NewIn for a part of the model. trained is everything that learns in the job, with its places in the job's
// index space; the stage has what the part needs of it.
func NewPart(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, part model.Part) (*Stage, error) {
	return newPart(compute, dev, m, a, trained, extent{part: part})
}

// NewBare is NewPart that reads nothing of what learns: its values are undefined until the caller writes W.
func NewBare(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, part model.Part) (*Stage, error) {
	return newPart(compute, dev, m, a, trained, extent{part: part, later: true})
}

func newPart(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, of extent) (*Stage, error) {
	var over model.Overlay
	if a != nil {
		over = a
	}
	part := of.part
	var own, held []*autograd.Param
	for _, p := range trained {
		of.before = of.before || !part.First() && (p.Unit < part.Lo || p.Unit >= m.Row()) // a shared table is the first part's too
		if !m.Holds(part, over, p) {
			continue
		}
		own, of.places = append(own, p), append(of.places, of.elems)
		of.extend(p)
	}
	for _, p := range m.Params {
		if m.Holds(part, over, p) {
			held = append(held, p)
		}
	}
	return begin(compute, dev, m, a, own, of, held)
}

// extend appends p to W.
func (of *extent) extend(p *autograd.Param) {
	lo, n := p.Off, p.Len()
	if k := len(of.spans) - 1; k >= 0 && of.spans[k].Hi == lo {
		of.spans[k].Hi += n
	} else {
		of.spans = append(of.spans, Span{lo, lo + n, of.elems})
	}
	of.elems += n
}

// needed are those of ps that the stage's part needs.
func (s *Stage) needed(ps []*autograd.Param) (own []*autograd.Param) {
	for _, p := range ps {
		if s.Model.Holds(s.Part, s.Over, p) {
			own = append(own, p)
		}
	}
	return own
}

// Local are what is trained here as W has it: the same weights, with Off counted in W. Optimizers work on these.
func (s *Stage) Local() []*autograd.Param {
	if s.Part == (model.Part{Hi: s.Model.Row()}) {
		return s.Train
	}
	local, at := make([]*autograd.Param, len(s.Train)), 0
	for i, p := range s.Train {
		q := *p
		q.Off, local[i] = at, &q
		at += p.Len()
	}
	return local
}

// use makes slot i the one that passes work in.
func (s *Stage) use(i int) {
	for len(s.slots) <= i {
		a := kernels.NewArena(s.Stream.Device(), slab)
		t := autograd.New(s.Stream, s.door, a)
		t.Compute = s.compute
		t.Share(&s.spare)
		s.slots = append(s.slots, &slot{tape: t, arena: a})
	}
	s.slot = s.slots[i]
}

// Forth runs a micro-batch through the part, in a slot that is kept until Back. in is what the part before gave
// (N, C), nil for the first; out goes to the next. The last gives none but the sums of the loss, and is ready for Back: the
// head's gradient is in G already. The others count tokens alone.
func (s *Stage) Forth(ctx context.Context, slot int, step uint64, seqs []model.Sequence, in []float32) (out []float32, sums objective.Sums, err error) {
	s.use(slot)
	defer s.tape.Trim(false) // what blocks took for themselves is there for the next micro-batch
	c := s.start(ctx, true, step, seqs)
	if err := s.enter(c, in); err != nil {
		return nil, sums, err
	}
	if s.Model.Last(s.Part) {
		up := s.lossGradient(c)
		s.hidden = s.Model.Run(c, s.input, s.Part)
		s.scores = s.Model.Score(ctx, c, s.hidden, up)
		sums, err = s.sums(nil)
		return nil, sums, err
	}
	s.hidden = s.Model.Run(c, s.input, s.Part)
	for _, y := range s.host.target {
		if y != objective.Ignore {
			sums.Tokens++
		}
	}
	out, err = s.leave()
	return out, sums, err
}

// enter puts what the part before gave on the tape.
func (s *Stage) enter(c *model.Ctx, in []float32) error {
	s.input = autograd.Var{}
	if s.Part.First() {
		return nil
	}
	if n := len(s.host.target) * s.Model.Config.Hidden; len(in) != n {
		return fmt.Errorf("the stage before gave %d numbers, these sequences have %d", len(in), n)
	}
	x := c.Alloc(len(s.host.target), s.Model.Config.Hidden)
	c.S.Upload(x, in)
	if s.input = autograd.Const(x); s.before {
		s.input = c.Input(x)
	}
	return nil
}

// leave reads what goes to the next part.
func (s *Stage) leave() ([]float32, error) {
	if err := s.tape.Err(); err != nil {
		return nil, err
	}
	out := make([]float32, s.hidden.T.Len())
	return out, s.Stream.Download(out, s.hidden.T)
}

// Back runs a slot's micro-batch backward and adds its gradient to G. dOut is the gradient of what Forth gave, nil in the
// last part; dIn is that of what Forth got, nil where nobody before this part wants it.
func (s *Stage) Back(ctx context.Context, slot int, dOut []float32) (dIn []float32, err error) {
	s.use(slot)
	defer s.tape.Trim(true)
	if len(s.Train) == 0 && !s.before { // nobody asked for a gradient
		return nil, nil
	}
	d := s.scores.DH
	if !s.Model.Last(s.Part) {
		if len(dOut) != s.hidden.T.Len() {
			return nil, fmt.Errorf("the next stage gave %d numbers as the gradient of %d", len(dOut), s.hidden.T.Len())
		}
		d = s.tape.Alloc(s.hidden.T.Rows, s.hidden.T.Cols)
		s.Stream.Upload(d, dOut)
	}
	if err := s.backward(ctx, d); err != nil || !s.input.Wants() {
		return nil, err
	}
	dIn = make([]float32, s.input.T.Len())
	g, ok := s.tape.Grad(s.input)
	if !ok {
		return dIn, nil // the loss does not depend on it
	}
	return dIn, s.Stream.Download(dIn, g)
}

// LogitsOf is Logits for a part: it takes what the part before gave, and gives what goes to the next; of the last it
// fills dst.
func (s *Stage) LogitsOf(ctx context.Context, seqs []model.Sequence, cache model.Cache, in, dst []float32) (out []float32, err error) {
	s.use(0)
	c := s.start(ctx, false, 0, seqs)
	c.Cache = cache
	if err := s.enter(c, in); err != nil {
		return nil, err
	}
	s.hidden = s.Model.Run(c, s.input, s.Part)
	if !s.Model.Last(s.Part) {
		return s.leave()
	}
	return nil, s.logits(ctx, c, dst)
}
