package trainer

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// Where owners step (job key parallel.zero from 1 on, in a swarm) nobody has the whole gradient or the whole optimizer
// state: Cut returns the mean gradient of this member's chunks, which it steps for all, and Gather brings the weights of
// everybody. What Gather brings is the chunks' new weights, or, where the wire's codec rounds, the change that all make.

// OwnersStep says whether owners step.
func (t *Trainer) OwnersStep() bool { return t.owned != nil }

// stepped is the round from the cut on, where owners step: step, gather, put in place.
func (t *Trainer) stepped(ctx context.Context, work Work, col Collective, own []Chunk, tot Totals) (r StepReport, err error) {
	if own, err = t.tryStep(own, tot); err != nil {
		return r, err
	}
	shared, err := t.result()
	if err != nil {
		return r, err
	}
	if err := col.Gather(ctx, work.Round, own, shared); err != nil {
		return r, err
	}
	t.over()
	return t.adopt(shared, tot)
}

// tryStep steps own chunks with their mean gradients. The state it leaves counts once the round is committed: adopt, or
// Confirm where this member does not get that far. A further attempt tries again. No chunks at all (nil) is a member
// that hears of a commit without a cut of its own: what was tried stays.
func (t *Trainer) tryStep(own []Chunk, tot Totals) (after []Chunk, err error) {
	if own == nil {
		return nil, nil
	}
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	o := t.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.chunks {
		x.tried = false
	}
	step := t.step + 1
	r := t.report(step, tot)
	if r.Skipped {
		return own[:0], nil
	}
	o.tried = step
	n := optim.Now{LR: r.LR, Clip: optim.Clip(r.GradNorm, *t.spec.MaxGradNorm)}
	for _, ch := range own {
		if ch.Lo >= t.elems {
			continue // the estimate of another chunk's curvature
		}
		v, err := t.tryChunk(ch, step, n, twin(own, ch.Lo+t.elems), r.Tokens)
		if err != nil {
			return nil, fmt.Errorf("optimizer step: %w", err)
		}
		after = append(after, Chunk{ch.Lo, ch.Hi, v})
	}
	return after, nil
}

// twin is the chunk at lo, or nil. own ascends.
func twin(own []Chunk, lo int) []float32 {
	if i, ok := slices.BinarySearchFunc(own, lo, func(c Chunk, lo int) int { return c.Lo - lo }); ok {
		return own[i].V
	}
	return nil
}

// tryChunk returns what a stepped chunk shares.
func (t *Trainer) tryChunk(ch Chunk, step uint64, n optim.Now, drawn []float32, tokens int64) ([]float32, error) {
	o := t.owned
	c := t.chunkAt(ch.Lo)
	if c < 0 || t.layout.Chunks[c].Hi != ch.Hi || len(ch.V) != ch.Hi-ch.Lo {
		return nil, fmt.Errorf("[%d, %d) with %d elements is not a chunk", ch.Lo, ch.Hi, len(ch.V))
	}
	if t.step == 0 && o.chunks[c] == nil { // before the first step every owner knows the state: nothing
		if err := o.put(Moments{Chunk: c}); err != nil {
			return nil, err
		}
	}
	g, d := o.scratch[0].SliceCols(0, len(ch.V)), kernels.Tensor{}
	o.stream.Upload(g, ch.V)
	if t.due(step) {
		if len(drawn) != len(ch.V) {
			return nil, fmt.Errorf("chunk %d has %d elements and its curvature %d", c, len(ch.V), len(drawn))
		}
		d = o.scratch[1].SliceCols(0, len(drawn))
		o.stream.Upload(d, drawn)
	}
	w := t.shared(ch.Lo, ch.Hi)
	after, err := o.try(c, step, n, w, g, d, tokens)
	if err != nil {
		return nil, err
	}
	v := t.host.stepped(ch.Lo, ch.Hi)
	if err := o.stream.Download(v, after); err != nil || !o.lossy {
		return v, err
	}
	shared := make([]float32, len(v))
	err = o.stream.Download(shared, w)
	for i := range v {
		v[i] -= shared[i] // rounded once; what that and the codec drop stays in the weights that are stepped
	}
	return v, err
}

// shared is a chunk's weights on the device, until the next call.
func (t *Trainer) shared(lo, hi int) kernels.Tensor {
	switch {
	case t.whole != nil:
		return t.wholeWeights(lo, hi)
	case t.away == nil:
		return t.stage.W.SliceCols(lo, hi)
	}
	w := t.owned.scratch[2].SliceCols(0, hi-lo)
	t.owned.stream.Upload(w, t.away.w[lo:hi])
	return w
}

// chunkAt is the chunk that begins at lo, or -1.
func (t *Trainer) chunkAt(lo int) int {
	c, ok := slices.BinarySearchFunc(t.layout.Chunks, lo, func(c layout.Chunk, lo int) int { return c.Lo - lo })
	if !ok {
		return -1
	}
	return c
}

// adopt puts what all members share of a committed step in place.
func (t *Trainer) adopt(shared []float32, tot Totals) (StepReport, error) {
	if err := t.lock(); err != nil {
		return StepReport{}, err
	}
	defer t.mu.Unlock()
	r, err := t.take(tot, func(*StepReport) error {
		t.changing()
		return t.putShared(shared[:t.elems])
	})
	if err == nil {
		t.owned.lockedConfirm(r.Step, r.Skipped)
	}
	return r, err
}

// Confirm says that a step was committed as this member tried it, although it did not get to gather its result: its
// chunks' state is that of the step.
func (t *Trainer) Confirm(step uint64) {
	if t.owned != nil {
		t.owned.lockedConfirm(step, false)
	}
}

func (o *owned) lockedConfirm(step uint64, skipped bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.confirm(step, skipped)
}

// Keep makes this member know the state of a chunk, so that it can own it. A chunk that is tried must not be replaced.
func (t *Trainer) Keep(m Moments) error {
	o := t.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.chunks == nil {
		return ErrClosed
	}
	return o.put(m)
}

// Kept is the step of the chunk's state here.
func (t *Trainer) Kept(chunk int) (step uint64, ok bool) {
	o := t.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.chunks[chunk]
	if x == nil {
		return 0, false
	}
	return x.now.step, true
}

// Tag is which state of a chunk is here: Moments without its vectors.
func (t *Trainer) Tag(chunk int) (m Moments, ok bool, err error) {
	o := t.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.chunks == nil {
		return m, false, ErrClosed
	}
	x := o.chunks[chunk]
	if x == nil {
		return m, false, nil
	}
	return Moments{Chunk: chunk, Step: x.now.step, Count: x.now.count}, true, nil
}

// Blank is state of a chunk whose vectors are there and empty, for a reader to fill.
func (t *Trainer) Blank(chunk int) Moments {
	n, m := t.layout.Chunks[chunk].Len(), Moments{Chunk: chunk}
	useM, useV := t.rule.Uses()
	for _, x := range []struct {
		used bool
		v    *[]float32
	}{{useM, &m.M}, {useV, &m.V}, {t.owned.lossy, &m.W}} {
		if x.used {
			*x.v = make([]float32, n)
		}
	}
	return m
}

// Stateless says whether the optimizer remembers nothing, so that there is nothing to hand over.
func (t *Trainer) Stateless() bool {
	m, v := t.rule.Uses()
	return !m && !v && !t.owned.lossy
}

// Moments copies the state of a chunk; false: there is none here.
func (t *Trainer) Moments(chunk int) (Moments, bool, error) {
	return t.moments(chunk, func(x *ownedChunk) *side { return &x.now })
}

// Tried copies the state that a chunk has if the step which was tried last is committed; false: it was not in it.
func (t *Trainer) Tried(chunk int) (Moments, bool, error) {
	return t.moments(chunk, func(x *ownedChunk) *side {
		if !x.tried {
			return nil
		}
		return &x.next
	})
}

func (t *Trainer) moments(chunk int, of func(*ownedChunk) *side) (m Moments, ok bool, err error) {
	o := t.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.chunks == nil {
		return m, false, ErrClosed
	}
	x := o.chunks[chunk]
	if x == nil {
		return m, false, nil
	}
	s := of(x)
	if s == nil {
		return m, false, nil
	}
	m, err = o.read(chunk, s)
	return m, true, err
}

// Forget drops the state of chunks that are not to be kept. step is that of their state.
func (t *Trainer) Forget(keep func(chunk int, step uint64) bool) {
	o := t.owned
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.stream.Sync(context.Background()) // its error sticks and comes with the next step
	for c, x := range o.chunks {
		if !keep(c, x.now.step) {
			o.drop(c)
		}
	}
}

// Weights is the number of chunks that hold weights; where an optimizer wants estimates of curvature, chunk c + Weights
// has those of chunk c.
func (t *Trainer) Weights() int { return t.owned.weights }
