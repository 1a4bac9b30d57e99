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
	"github.com/seed-7b27c88a/shoal/shard/scratch"
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

// Packed are Rows whose positions may hold several sequences, one behind the other, that do not see each other: Cuts lists
// where those after the first begin.
type Packed interface {
	Rows
	Cuts(i int) []int
}

// Config is what a Trainer is made of.
type Config struct {
	Spec    *job.Spec      // validated
	Model   model.Files    // a Hugging Face directory
	Adapter model.Files    // the PEFT directory to start from; nil: a fresh adapter, or none if the spec has none
	Rows    Rows           // what is trained on
	Device  kernels.Device // stays the caller's, who closes it after the trainer
	Owners  bool           // a swarm whose job says so: owners step chunks (parallel.zero from 1 on)
	Scratch *scratch.Dir   // where vectors lie that parallel.zero: 3 keeps out of memory; closed after the trainer. nil: in memory
	Idle    bool           // it only keeps state and exports: frozen weights are not loaded, Run and Eval are errors

	Part  model.Part // units that this member holds; the zero Part: all of them
	Line  Line       // the other stages, where the Part is not all
	Whole bool       // the member computes its Part alone and keeps the state of all, as Owners; the zero Part is then none at all
}

// errIdle answers who wants an idle trainer to compute.
var errIdle = errors.New("this trainer was made to keep state alone: it has no frozen weights")

// Trainer is one member's copy of what a job trains: weights, optimizer state and the device work on them.
//
// Run belongs to one goroutine. The other methods may be called from others meanwhile; they wait for the device, not for
// the network.
type Trainer struct {
	spec    *job.Spec
	rows    Rows
	sampler *data.Sampler
	files   model.Files
	idle    bool
	owners  bool // step
	scratch *scratch.Dir
	steps   uint64 // of the whole job
	started time.Time

	parts
	rule optim.Rule
	part model.Part // the zero Part: the whole model; beside whole: nothing of it
	line Line
	dev  kernels.Device

	mu      sync.Mutex // guards what follows and all device work
	closed  bool
	stage   *stage.Stage    // nil: nothing is computed, see whole
	whole   *whole          // the state of the job, where the stage is a part of it
	opt     optim.Optimizer // of the whole; none where owners step
	away    *away           // weights that come as they are used; nil: what learns stays on the device
	owned   *owned          // chunks that this member steps, where owners step; nil: nobody owns
	curved  curved
	coded   *coded         // of gradients on their way to the host; nil: they come as they are
	apart   *apart         // diloco
	norm    kernels.Tensor // F64 (1, 1) squared norm of a gradient that stays on the device
	squares [1]float64     // and its value on the host
	step    uint64         // optimizer steps done
	scale   LossScale      // of the next
	feed    feeder
	host    buffers
	eval    *evaluation // under way; nil: none

	evals chan struct{} // holds a token while there is an Eval
}

// parts are a model, perhaps an adapter, and what of them learns.
type parts struct {
	model   *model.Model
	adapter peft.Adapter // nil: none
	trained []*autograd.Param
	layout  *layout.Layout
	zero    int // what the job cuts among members: parallel.zero
	elems   int // length of the index space that is trained: the layout's, or its first half (see curve.go)
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
	t := &Trainer{spec: c.Spec, rows: c.Rows, files: c.Model, idle: c.Idle, parts: *p, started: time.Now(), rule: rule(c.Spec), part: c.Part, line: c.Line, dev: c.Device,
		evals: make(chan struct{}, 1), steps: c.Spec.Steps(uint64(c.Rows.Rows())),
		sampler: &data.Sampler{Rows: uint64(c.Rows.Rows()), Seed: c.Spec.Seed, Shuffle: c.Spec.Shuffle == nil || *c.Spec.Shuffle}}
	t.feed = feeder{model: t.model, over: t.parts.over(), rows: t.rows}
	t.owners = c.Owners && t.zero > 0 || t.streams()
	switch {
	case c.Whole && c.Idle: // like any that computes nothing
		t.part = model.Part{}
	case c.Whole:
		t.whole = &whole{}
	}
	if t.zero == 3 && c.Spec.Parallel.Offload != job.OffloadCPU {
		t.scratch = c.Scratch
	}
	if err := t.checkPart(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := t.load(c); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.host = buffers{n: t.layout.Size, room: t.scratch}
	if err := t.openApart(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// open reads the descriptions of the model and the adapter, not the weights, and lays out the index space.
func open(spec *job.Spec, files, adapter model.Files) (*parts, error) {
	m, err := model.OpenWith(files, model.Surgery{KVHeads: spec.Surgery.KVHeads})
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	p := &parts{model: m}
	if err := checkForms(spec, m, files); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.choose(spec, files, adapter); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.layOut(spec); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// layOut gives everything trained its place, and where that is wanted the estimates of its curvature. Where owners step
// chunks are cut only where the optimizer allows.
func (p *parts) layOut(spec *job.Spec) (err error) {
	rule := rule(spec)
	curves := curves(rule)
	p.zero = zeroLevel(spec, p.trained)
	slices.SortStableFunc(p.trained, func(a, b *autograd.Param) int { return cmp.Compare(a.Unit, b.Unit) })
	ps := make([]layout.Param, len(p.trained))
	for i, q := range p.trained {
		ps[i] = layout.Param{Name: q.Name, Unit: q.Unit, Rows: q.Rows, Cols: q.Cols}
		if p.zero > 0 {
			ps[i].Grain = rule.Grain(q.Rows, q.Cols)
		}
	}
	if curves {
		ps = append(ps, curvature(p.trained)...)
	}
	most := layout.MaxChunk
	if n := spec.Parallel.Chunks; n > 0 && p.zero > 0 {
		most = layout.Most(elements(p.trained), n)
	}
	if p.layout, err = layout.NewCut(ps, most); err != nil {
		return err
	}
	for i, q := range p.trained {
		q.Off = p.layout.Params[i].Off
	}
	if p.elems = p.layout.Size; curves {
		p.elems /= 2
	}
	return nil
}

func elements(ps []*autograd.Param) (n int) {
	for _, q := range ps {
		n += q.Len()
	}
	return n
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

// computed is the type that a job's products are computed in.
func computed(spec *job.Spec) dtype.Type {
	switch spec.DType {
	case job.BF16:
		return dtype.BF16
	case job.FP16:
		return dtype.F16
	}
	return dtype.F32
}

// load puts everything on the device.
func (t *Trainer) load(c Config) (err error) {
	dev := c.Device
	var a stage.Adapter
	if t.adapter != nil {
		a = t.adapter
	}
	if t.whole != nil {
		return t.loadWhole(dev)
	}
	if err = t.loadStage(dev, a); err != nil {
		return err
	}
	t.dress()
	if t.norm, err = kernels.Alloc(dev, dtype.F64, 1, 1); err != nil {
		return err
	}
	if t.owners {
		t.owned, err = newOwned(dev, &t.parts, t.rule, c.Owners && t.spec.Wire.Gradients != "fp32")
		if err == nil && t.zero == 3 && t.offloaded() {
			t.owned.rests, t.owned.room = true, t.scratch
		}
	} else {
		t.opt, err = t.rule.Open(t.stage.Stream, t.stage.Local(), t.elems)
	}
	if err != nil {
		return err
	}
	if err := t.openCoded(dev); err != nil {
		return err
	}
	return t.openCurved(dev)
}

// dress tells a new stage how the job computes.
func (t *Trainer) dress() {
	t.stage.Checkpoint = t.spec.GradientCheckpointing
	t.stage.Noise = model.Noise{Alpha: t.spec.NEFTuneAlpha, Seed: t.spec.Seed}
}

func (t *Trainer) loadStage(dev kernels.Device, a stage.Adapter) (err error) {
	if t.isPart() {
		return t.loadPart(dev, a)
	}
	begin := stage.NewIn
	switch {
	case t.streams():
		return t.loadAway(dev)
	case t.idle:
		begin = stage.NewIdle
	case t.offloads():
		return t.loadOffloaded(dev, a)
	}
	t.stage, err = begin(computed(t.spec), dev, t.model, a, t.trained, t.elems)
	return err
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
	if t.eval != nil {
		t.eval.release(t.stage)
		t.eval = nil
	}
	if t.stage != nil { // else New came not that far, or there is no part to compute
		t.stage.Close() // waits for the device: nothing uses the rest any more
	}
	if t.opt != nil {
		t.opt.Close()
	}
	if t.owned != nil {
		_ = t.owned.close() // nobody wants what is left of its steps
	}
	t.coded.close(t.dev)
	kernels.Free(t.dev, t.norm.Buf, t.curved.drawn.Buf)
	if t.away != nil {
		t.scratch.Free(t.away.w)
	}
	t.host = buffers{n: t.layout.Size}
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
func (t *Trainer) Device() kernels.Device { return t.dev }

// Layout is the job's index space, the order of everything in State. The error is always nil.
func (t *Trainer) Layout() (*layout.Layout, error) { return t.layout, nil }

// Elems is the length of the vectors of a State.
func (t *Trainer) Elems() int { return t.elems }
