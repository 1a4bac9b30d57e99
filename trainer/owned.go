package trainer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/shard/scratch"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// Moments is what an owner knows of a chunk beside the weights that all share. It is the state of one optimizer step.
type Moments struct {
	Chunk int       // of the layout
	Step  uint64    // the job's optimizer step after which it is
	Count uint64    // steps that these moments have seen: biases are corrected by it, so that moments may begin anew
	M, V  []float32 // of the chunk's length; nil: zero, or not used by the optimizer
	W     []float32 // the weights that are stepped, where what is shared of them was rounded; nil: the shared ones
}

// owned is the optimizer state of the chunks that this member steps for all (ZeRO 1 and 2, Rajbhandari et al. 2020,
// arXiv:1910.02054). It has a stream and a lock of its own, so that state can be read while the model computes.
//
// Every chunk has two sides. A step is tried on next and leaves now alone; when the job has committed it the sides
// change places, and when it was in vain nothing has happened.
type owned struct {
	layout  *layout.Layout
	weights int // chunks that hold weights; the rest are the first ones' estimates of curvature
	trained []*autograd.Param
	rule    optim.Rule
	lossy   bool         // what is shared was rounded: owners keep the weights that they step
	rests   bool         // state is on the device for the time of a step alone
	room    *scratch.Dir // where it lies else

	mu      sync.Mutex // guards what follows; taken after the trainer's
	stream  *kernels.Stream
	chunks  map[int]*ownedChunk
	scratch [3]kernels.Tensor // (1, largest chunk): a gradient, weights or drawn gradient, and shared weights that come from elsewhere
	tried   uint64            // step that next is of; 0: of none
}

type ownedChunk struct {
	now, next side
	tried     bool // next is of the step that was tried
}

// side is a chunk's state.
type side struct {
	opt         optim.Optimizer
	w           kernels.Tensor // (1, elements); none unless lossy
	shared      bool           // w is still to be set to the shared weights
	step, count uint64
}

func newOwned(dev kernels.Device, p *parts, rule optim.Rule, lossy bool) (*owned, error) {
	o := &owned{layout: p.layout, trained: p.trained, rule: rule, lossy: lossy, stream: kernels.NewStream(dev), chunks: map[int]*ownedChunk{}}
	largest := 1
	for c, ch := range p.layout.Chunks {
		largest = max(largest, ch.Len())
		if ch.Lo < p.elems {
			o.weights = c + 1
		}
	}
	if largest > layout.MaxChunk {
		return nil, fmt.Errorf("a tensor of %d elements cannot be cut for this optimizer, and owners step at most %d at once; use parallel.zero: 0 or optimizer.name: adamw", largest, layout.MaxChunk)
	}
	for i := range o.scratch {
		if i == 2 && p.zero < 3 {
			break
		}
		var err error
		if o.scratch[i], err = kernels.Alloc(dev, dtype.F32, 1, largest); err != nil {
			return nil, errors.Join(fmt.Errorf("memory to step a chunk: %w", err), o.close())
		}
	}
	return o, nil
}

func (o *owned) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.stream.Sync(context.Background())
	for c := range o.chunks {
		o.drop(c)
	}
	for _, t := range o.scratch {
		kernels.Free(o.stream.Device(), t.Buf)
	}
	o.chunks = nil
	return err
}

// drop forgets a chunk. Nothing may be under way.
func (o *owned) drop(c int) {
	for _, s := range []side{o.chunks[c].now, o.chunks[c].next} {
		if s.opt != nil {
			s.opt.Close()
		}
		kernels.Free(o.stream.Device(), s.w.Buf)
	}
	delete(o.chunks, c)
}

// params are the tensors of a chunk, or parts of them, placed in it.
func (o *owned) params(ch layout.Chunk) (ps []*autograd.Param) {
	for _, seg := range o.layout.Segments(ch.Lo, ch.Hi) {
		p := *o.trained[seg.Param]
		if n := seg.Hi - seg.Lo; n != p.Len() {
			p.Rows, p.Cols = 1, n
		}
		p.Off = seg.Lo - ch.Lo
		ps = append(ps, &p)
	}
	return ps
}

// get finds a chunk or takes memory for it.
func (o *owned) get(c int) (*ownedChunk, error) {
	if x := o.chunks[c]; x != nil {
		return x, nil
	}
	ch := o.layout.Chunks[c]
	x := &ownedChunk{}
	o.chunks[c] = x
	for _, s := range []*side{&x.now, &x.next} {
		var err error
		s.opt, err = o.open(ch)
		if err == nil && o.lossy {
			s.w, err = kernels.Alloc(o.stream.Device(), dtype.F32, 1, ch.Len())
		}
		if err != nil {
			o.drop(c)
			return nil, fmt.Errorf("chunk %d: %w", c, err)
		}
	}
	return x, nil
}

// open is an optimizer of a chunk without state.
func (o *owned) open(ch layout.Chunk) (optim.Optimizer, error) {
	if o.rests {
		return newResting(o.rule, o.stream, o.room, o.params(ch), ch.Len())
	}
	return o.rule.Open(o.stream, o.params(ch), ch.Len())
}

// put replaces what is known of a chunk.
func (o *owned) put(m Moments) error {
	if m.Chunk < 0 || m.Chunk >= o.weights {
		return fmt.Errorf("moments of chunk %d of %d", m.Chunk, o.weights)
	}
	n := o.layout.Chunks[m.Chunk].Len()
	for _, v := range [][]float32{m.M, m.V, m.W} {
		if v != nil && len(v) != n {
			return fmt.Errorf("moments of %d elements for chunk %d of %d", len(v), m.Chunk, n)
		}
	}
	x, err := o.get(m.Chunk)
	if err != nil {
		return err
	}
	s := &x.now
	s.step, s.count, s.shared = m.Step, m.Count, o.lossy && m.W == nil
	useM, useV := o.rule.Uses()
	for _, v := range []struct {
		used bool
		slot optim.Slot
		v    []float32
	}{{useM, optim.M, m.M}, {useV, optim.V, m.V}} {
		if v.used {
			s.opt.Write(v.slot, orZeros(v.v, n))
		}
	}
	if o.lossy && m.W != nil {
		o.stream.Upload(s.w, m.W)
	}
	x.tried = false
	return o.stream.Sync(context.Background())
}

func orZeros(v []float32, n int) []float32 {
	if v == nil {
		return make([]float32, n)
	}
	return v
}

// read copies one side of a chunk.
func (o *owned) read(c int, s *side) (m Moments, err error) {
	n := o.layout.Chunks[c].Len()
	m = Moments{Chunk: c, Step: s.step, Count: s.count}
	if useM, _ := o.rule.Uses(); useM {
		m.M = make([]float32, n)
		err = s.opt.Read(optim.M, 0, m.M)
	}
	if _, useV := o.rule.Uses(); useV && err == nil {
		m.V = make([]float32, n)
		err = s.opt.Read(optim.V, 0, m.V)
	}
	if o.lossy && !s.shared && err == nil {
		m.W = make([]float32, n)
		err = o.stream.Download(m.W, s.w)
	}
	return m, err
}

// try steps the chunk on its next side. w is the shared weights and g the mean gradient over the chunk, both (1, elements);
// drawn is that of drawn labels where the step begins with an estimate of the curvature. The weights after it are left
// in the returned tensor, until the next call.
func (o *owned) try(c int, step uint64, n optim.Now, w, g, drawn kernels.Tensor, tokens int64) (kernels.Tensor, error) {
	x, err := o.get(c)
	if err != nil {
		return w, err
	}
	if x.now.step != step-1 {
		return w, fmt.Errorf("chunk %d: optimizer state of step %d for step %d", c, x.now.step, step)
	}
	s := o.stream
	x.next.opt.CopyFrom(x.now.opt)
	x.next.step, x.next.count, x.next.shared = step, x.now.count+1, false
	after := o.scratch[1].SliceCols(0, w.Cols)
	before := w
	if o.lossy {
		after = x.next.w
		if !x.now.shared {
			before = x.now.w
		}
	}
	if !drawn.None() { // lies where the weights go afterwards
		x.next.opt.(optim.Curved).Curve(drawn, tokens)
	}
	if after != before {
		s.Copy(after, before)
	}
	n.Step = x.next.count
	x.next.opt.Step(n, after, g, 0, w.Cols)
	x.tried = true
	if r, ok := x.next.opt.(*resting); ok {
		return after, r.err
	}
	return after, nil
}

// giveUp forgets what was tried.
func (o *owned) giveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried = 0
}

// confirm makes a step that was tried the state; skipped: all state of the step before is that of this one.
func (o *owned) confirm(step uint64, skipped bool) {
	for _, x := range o.chunks {
		switch {
		case skipped && x.now.step+1 == step:
			x.now.step, x.now.count = step, x.now.count+1
		case !skipped && o.tried == step && x.tried:
			x.now, x.next = x.next, x.now
		}
		x.tried = false
	}
	o.tried = 0
}
