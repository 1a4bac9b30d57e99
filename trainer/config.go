package trainer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// Rows are materialised positions: token ids and, beside each, its label (negative: nothing is learned there).
type Rows interface {
	Rows() int
	Row(ctx context.Context, i int) (ids, labels []int32, err error)
}

// Config is what a Trainer is made of.
type Config struct {
	Spec    *job.Spec      // validated
	Model   model.Files    // a Hugging Face directory
	Adapter model.Files    // the PEFT directory to start from; nil: a fresh adapter, or none if the spec has none
	Rows    Rows           // what is trained on
	Device  kernels.Device // stays the caller's, who closes it after the trainer
}

// Trainer is one member's copy of what a job trains: weights, optimizer state and the device work on them.
//
// Run belongs to one goroutine. The other methods may be called from others meanwhile; they wait for the device, not for
// the network.
type Trainer struct {
	spec    *job.Spec
	rows    Rows
	sampler *data.Sampler
	files   model.Files
	steps   uint64 // of the whole job
	started time.Time

	parts
	opt  optim.AdamW
	segs []optim.Segment

	mu             sync.Mutex // guards what follows and all device work
	closed         bool
	stage          *stage.Stage
	m, v           kernels.Tensor // (1, elements) moments
	decayed, plain kernels.Tensor // (1, optim.HyperLen) numbers of a step
	norm           kernels.Tensor // F64 (1, 1) squared norm of a gradient that stays on the device
	squares        [1]float64     // and its value on the host
	step           uint64         // optimizer steps done
	feed           feeder
	host           buffers
	eval           *evaluation // under way; nil: none

	evals chan struct{} // holds a token while there is an Eval
}

// parts are a model, perhaps an adapter, and what of them learns.
type parts struct {
	model   *model.Model
	adapter peft.Adapter // nil: none
	trained []*autograd.Param
	layout  *layout.Layout
	elems   int // length of the index space
}

// New loads a job's model and adapter onto the device. Close it in the end.
func New(c Config) (*Trainer, error) {
	if c.Rows.Rows() == 0 {
		return nil, errors.New("the data has no rows to train on")
	}
	p, err := open(c.Spec, c.Model, c.Adapter)
	if err != nil {
		return nil, err
	}
	t := &Trainer{spec: c.Spec, rows: c.Rows, files: c.Model, parts: *p, started: time.Now(), opt: optimizer(c.Spec),
		evals: make(chan struct{}, 1), steps: c.Spec.Steps(uint64(c.Rows.Rows())),
		sampler: &data.Sampler{Rows: uint64(c.Rows.Rows()), Seed: c.Spec.Seed, Shuffle: c.Spec.Shuffle == nil || *c.Spec.Shuffle}}
	t.segs = t.opt.Segments(t.trained)
	t.feed, t.host = feeder{model: t.model, over: t.parts.over(), rows: t.rows}, buffers{n: t.elems}
	if err := t.load(c.Device); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// open reads the descriptions of the model and the adapter, not the weights, and lays out the index space.
func open(spec *job.Spec, files, adapter model.Files) (*parts, error) {
	m, err := model.Open(files)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	p := &parts{model: m}
	if err := p.choose(spec, files, adapter); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.layOut(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// layOut gives everything trained its place.
func (p *parts) layOut() (err error) {
	slices.SortStableFunc(p.trained, func(a, b *autograd.Param) int { return cmp.Compare(a.Unit, b.Unit) })
	ps := make([]layout.Param, len(p.trained))
	for i, q := range p.trained {
		ps[i] = layout.Param{Name: q.Name, Unit: q.Unit, Rows: q.Rows, Cols: q.Cols}
	}
	if p.layout, err = layout.New(ps); err != nil {
		return err
	}
	for i, q := range p.trained {
		q.Off = p.layout.Params[i].Off
	}
	p.elems = p.layout.Size
	return nil
}

// Layout is the index space of a job, told from the descriptions of its model and adapter alone: no weights are read and
// no device is needed.
func Layout(spec *job.Spec, files, adapter model.Files) (*layout.Layout, error) {
	p, err := open(spec, files, adapter)
	if err != nil {
		return nil, err
	}
	return p.layout, p.Close()
}

func optimizer(spec *job.Spec) optim.AdamW {
	o := spec.Optimizer
	a := optim.AdamW{Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps, WeightDecay: o.WeightDecay, NoDecay: []string{"norm", "bias"}}
	if o.NoDecay != nil {
		a.NoDecay = *o.NoDecay
	}
	return a
}

// load puts everything on the device.
func (t *Trainer) load(dev kernels.Device) (err error) {
	var a stage.Adapter
	if t.adapter != nil {
		a = t.adapter
	}
	if t.stage, err = stage.New(dev, t.model, a, t.trained, t.elems); err != nil {
		return err
	}
	t.stage.Checkpoint = t.spec.GradientCheckpointing
	for _, x := range []struct {
		dst  *kernels.Tensor
		cols int
	}{{&t.m, t.elems}, {&t.v, t.elems}, {&t.decayed, optim.HyperLen}, {&t.plain, optim.HyperLen}} {
		if *x.dst, err = kernels.Alloc(dev, dtype.F32, 1, x.cols); err != nil {
			return fmt.Errorf("optimizer state: %w", err)
		}
	}
	if t.norm, err = kernels.Alloc(dev, dtype.F64, 1, 1); err != nil {
		return fmt.Errorf("optimizer state: %w", err)
	}
	return nil
}

// Close gives the device memory back and closes the files of the model and the adapter. It may be called at any time,
// and again.
func (t *Trainer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if t.stage != nil { // else New came not that far
		if t.eval != nil {
			t.eval.Release()
			t.eval = nil
		}
		t.stage.Close() // waits for the device: nothing uses the rest any more
		dev := t.stage.Stream.Device()
		kernels.Free(dev, t.m.Buf, t.v.Buf, t.decayed.Buf, t.plain.Buf, t.norm.Buf)
	}
	t.host = buffers{n: t.elems}
	return t.parts.Close()
}

// lock takes the device, unless the trainer is closed. The caller unlocks.
func (t *Trainer) lock() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Close closes the files of the model and the adapter.
func (p *parts) Close() error {
	err := p.model.Close()
	if p.adapter != nil {
		err = errors.Join(err, p.adapter.Close())
	}
	return err
}

// Steps is the number of optimizer steps of the job.
func (t *Trainer) Steps() uint64 { return t.steps }

// Step is the number of optimizer steps done.
func (t *Trainer) Step() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.step
}

// Device is where the trainer computes.
func (t *Trainer) Device() kernels.Device { return t.stage.Stream.Device() }

// Layout is the job's index space, the order of everything in State. The error is always nil.
func (t *Trainer) Layout() (*layout.Layout, error) { return t.layout, nil }

// Elems is the length of the index space.
func (t *Trainer) Elems() int { return t.elems }
