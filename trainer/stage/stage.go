// Package stage runs a range of a model's units on one device: it owns the device memory of their weights and
// gradients, and turns sequences into losses and gradients. A stage of all units does so by Forward and Backward, one
// micro-batch at a time; one of a part by Forth and Back, with several micro-batches on their way, each in a slot of
// its own.
//
// What is trained lies in one flat vector in the order of the job's index space, and so does its gradient, to which
// every backward pass adds; both are float32. Of the index space a part has what it needs: Spans says where. Numbers
// of a part are those of the whole model to the bit; of weights that several parts hold each has a share of the gradient. What is frozen lies beside it, read-only. Where products are computed in a
// narrower type, frozen matrices are stored in it, and of what is trained there is a copy in it.
//
// Concurrency. A Stage belongs to one goroutine at a time. Close gives its device memory back.
package stage

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// slab is how much device memory the arena of activations takes at a time.
const slab = 4 << 20 // bytes

// Adapter is an overlay with weights of its own. Weights of the model may be among them, which it then has values of.
type Adapter interface {
	model.Overlay
	Weights() []*autograd.Param
	Read(p *autograd.Param, dst []float32) error // what p starts from
}

// Stage is a model on a device.
type Stage struct {
	Model *model.Model
	Part  model.Part
	Over  model.Overlay     // nil: none
	Train []*autograd.Param // what is trained here, in the order of the index space; its Off are set
	Spans []Span            // where it lies in W and G
	W, G  kernels.Tensor    // (1, Elems) weights and gradient of what is trained; the zero Tensor when nothing is

	LossScale  float32 // gradients are of the loss times this; 0 is 1
	Checkpoint bool    // blocks keep only their inputs for the backward pass: a third more work, far less memory

	Noise model.Noise // on the embedding in training
	Group model.Group // the other shards, of a stage that has one; nil: the model is whole

	stored dtype.Type     // of frozen matrices, and of the copy of what is trained
	half   kernels.Tensor // (1, Elems) W in that type; the zero Tensor where that is F32
	stale  bool           // half is not what W is

	Stream  *kernels.Stream
	weights *autograd.Resident
	door    autograd.Weights  // what the tape uses: weights, or a layer over what comes and goes
	base    *gather.Weights   // nil: everything stays on the device
	held    []*kernels.Buffer // memory of weights and gradients, until Close
	compute dtype.Type
	before  bool // something learns in the parts before this one

	*slot         // the one that the pass of now works in
	slots []*slot // one at least
	spare kernels.Spare
}

// slot is what one micro-batch on its way has of its own.
type slot struct {
	tape  *autograd.Tape
	arena *kernels.Arena

	pass   model.Ctx
	input  autograd.Var // what the part before gave
	hidden autograd.Var // result of the forward pass that waits for its backward pass
	scores model.Scores
	host   perToken
}

// perToken are the numbers of a pass's tokens on the host. They keep their memory from pass to pass.
type perToken struct {
	target, best []int32
	logp, coef   []float32
}

// New puts a model, and an adapter unless that is nil, on dev. Those of their parameters that are among trained learn;
// each has its place in the index space of elems elements. The others are frozen.
func New(dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, elems int) (*Stage, error) {
	return NewIn(dtype.F32, dev, m, a, trained, elems)
}

// NewIn is New with products computed in a type: F32, BF16, in which activations are stored too, or F16.
func NewIn(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, elems int) (*Stage, error) {
	return begin(compute, dev, m, a, trained, whole(m, elems), m.Params)
}

// NewIdle is NewIn for a stage that computes nothing: of the model it holds what is trained alone.
func NewIdle(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, elems int) (*Stage, error) {
	frozen := without(m.Params, trained)
	return begin(compute, dev, m, a, trained, whole(m, elems), without(m.Params, frozen))
}

// begin makes a stage that holds some of the model's weights.
func begin(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, of extent, held []*autograd.Param) (*Stage, error) {
	if sh := m.Sharded(); a != nil && sh.Of > 1 {
		return nil, fmt.Errorf("shard %d of %d: adapters work on whole models alone; set parallel.tensor to 1", sh.Rank, sh.Of)
	}
	s := &Stage{stored: autograd.Stored(compute), compute: compute, Model: m, Part: of.part, Train: trained, Spans: of.spans, before: of.before,
		Stream: kernels.NewStream(dev), weights: autograd.NewResident()}
	if s.door = s.weights; of.source != nil {
		s.base = gather.New(s.Stream, s.stored, held, func(p *autograd.Param) bool { return slices.Contains(of.gathered, p) }, of.source)
		s.door, held = gather.Layered{Resident: s.weights, Base: s.base}, nil
	}
	s.use(0)
	for i, p := range of.places {
		s.weights.Place(trained[i], p)
	}
	if err := s.fill(a, of, held); err != nil {
		s.Close()
		return nil, fmt.Errorf("load weights: %w", err)
	}
	return s, nil
}

// Close gives the device memory back. Nothing may use the stage or its tensors afterwards. It may be called again.
func (s *Stage) Close() {
	// What is under way still writes to the memory. Its error is of no interest: nobody will read the result.
	_ = s.Stream.Sync(context.Background())
	for _, l := range s.slots {
		l.tape.Free()
	}
	s.spare.Free(s.Stream.Device())
	if s.base != nil {
		s.base.Close()
	}
	kernels.Free(s.Stream.Device(), s.held...)
	s.held, s.W, s.G, s.half = nil, kernels.Tensor{}, kernels.Tensor{}, kernels.Tensor{}
}

// fill takes memory for weights and gradients, and reads the weights: the adapter's, and of the model those that are held.
func (s *Stage) fill(a Adapter, of extent, base []*autograd.Param) error {
	if err := s.place(of.elems); err != nil {
		return err
	}
	var later []*autograd.Param
	if of.later {
		later = s.Train
	}
	if a != nil {
		s.Over = a
		own, read := without(s.needed(a.Weights()), later), a.Read
		if of.values != nil { // the model's own come with the rest of it
			own, read = without(own, s.Model.Params), of.values
		}
		if err := s.load(own, inOne(read)); err != nil {
			return err
		}
		base = without(base, a.Weights())
	}
	base = without(base, later)
	if err := s.load(base, s.Model.ReadPieces); err != nil {
		return err
	}
	return s.Stream.Sync(context.Background())
}

// without is all but those that an adapter has its own values of.
func without(all, own []*autograd.Param) []*autograd.Param {
	return slices.DeleteFunc(slices.Clone(all), func(p *autograd.Param) bool { return slices.Contains(own, p) })
}

// place takes memory for what is trained.
func (s *Stage) place(elems int) (err error) {
	if elems == 0 {
		return nil
	}
	if s.W, err = s.take(1, elems); err != nil {
		return err
	}
	if s.G, err = s.take(1, elems); err != nil {
		return err
	}
	for _, p := range s.Train {
		s.weights.Train(p, s.W, s.G)
	}
	return s.placeHalf(elems)
}

// placeHalf takes memory for the narrow copy of what is trained, if there has to be one.
func (s *Stage) placeHalf(elems int) (err error) {
	if s.stored == dtype.F32 {
		return nil
	}
	if s.half, err = s.takeOf(s.stored, 1, elems); err != nil {
		return err
	}
	s.stale = true
	for _, p := range s.Train {
		if matrix(p) {
			s.weights.Copy(p, s.half)
		}
	}
	return nil
}

// Changed says that W has changed, or will before the next pass.
func (s *Stage) Changed() { s.stale = true }

// freeze takes memory for those of params that are not trained. The matrices of a unit lie side by side, so that layers
// with one input are one product, and behind them its vectors.
func (s *Stage) freeze(params []*autograd.Param) error {
	var frozen []*autograd.Param
	for _, p := range params {
		if !slices.Contains(s.Train, p) {
			frozen = append(frozen, p)
		}
	}
	slices.SortStableFunc(frozen, func(a, b *autograd.Param) int {
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(len(b.Shape), len(a.Shape)))
	})
	for len(frozen) > 0 {
		n, elems := 0, 0
		for ; n < len(frozen) && frozen[n].Unit == frozen[0].Unit && matrix(frozen[n]) == matrix(frozen[0]); n++ {
			elems += frozen[n].Len()
		}
		typ := dtype.F32
		if matrix(frozen[0]) {
			typ = s.stored
		}
		t, err := s.takeOf(typ, 1, elems)
		if err != nil {
			return err
		}
		for _, p := range frozen[:n] {
			s.weights.Freeze(p, t.SliceCols(0, p.Len()).Reshape(p.Rows, p.Cols))
			t = t.SliceCols(p.Len(), t.Cols)
		}
		frozen = frozen[n:]
	}
	return nil
}

// matrix reports whether p is a factor of products or a table; norms and biases are neither.
func matrix(p *autograd.Param) bool { return len(p.Shape) == 2 }

// take is memory until Close.
func (s *Stage) take(rows, cols int) (kernels.Tensor, error) {
	return s.takeOf(dtype.F32, rows, cols)
}

func (s *Stage) takeOf(typ dtype.Type, rows, cols int) (kernels.Tensor, error) {
	t, err := kernels.Alloc(s.Stream.Device(), typ, rows, cols)
	if err == nil {
		s.held = append(s.held, t.Buf)
	}
	return t, err
}

// Value reads p's value of now from the device.
func (s *Stage) Value(p *autograd.Param) ([]float32, error) {
	v, from := make([]float32, p.Len()), s.weights.Value(p)
	if from.Type == dtype.F32 {
		return v, s.Stream.Download(v, from)
	}
	t, err := kernels.Alloc(s.Stream.Device(), dtype.F32, p.Rows, p.Cols)
	if err != nil {
		return nil, err
	}
	defer kernels.Free(s.Stream.Device(), t.Buf)
	s.Stream.Copy(t, from)
	return v, s.Stream.Download(v, t)
}

// Forward runs one micro-batch of checked sequences and returns what it adds up to. Backward then adds its gradient.
// step counts optimizer steps from 1.
func (s *Stage) Forward(ctx context.Context, step uint64, seqs []model.Sequence) (objective.Sums, error) {
	s.use(0)
	c := s.start(ctx, true, step, seqs)
	up := s.lossGradient(c)
	s.hidden = s.Model.Hidden(c)
	s.scores = s.Model.Score(ctx, c, s.hidden, up)
	return s.sums(nil)
}

// lossGradient is d(loss)/d(logp) of the batch.
func (s *Stage) lossGradient(c *model.Ctx) kernels.Tensor {
	h := &s.host
	h.coef = resize(h.coef, len(h.target))
	objective.CrossEntropy{}.Grad(h.target, h.coef)
	s.enlarge(h.coef)
	up := c.Alloc(len(h.coef), 1)
	c.S.Upload(up, h.coef)
	return up
}

// Backward adds the gradient of the last Forward's summed loss to G.
func (s *Stage) Backward(ctx context.Context) error { return s.backward(ctx, s.scores.DH) }

// backward runs the slot's pass backward from the gradient of its result.
func (s *Stage) backward(ctx context.Context, d kernels.Tensor) error {
	if err := s.tape.Backward(ctx, []autograd.Var{s.hidden}, []kernels.Tensor{d}); err != nil {
		return err
	}
	if s.base != nil {
		if err := s.base.Err(); err != nil {
			return err
		}
	}
	for _, p := range s.Train {
		if s.weights.Start(p) { // the loss does not depend on it
			g, _ := s.weights.Grad(p)
			s.Stream.Fill(g, 0)
		}
	}
	return nil
}

// Eval is a forward pass over the weights of a Still that keeps nothing and also counts correct tokens.
func (s *Stage) Eval(ctx context.Context, k *Still, seqs []model.Sequence) (objective.Sums, error) {
	s.use(0)
	s.tape.W = k.door()
	defer func() { s.tape.W = s.door }()
	c := s.start(ctx, false, 0, seqs)
	s.scores = s.Model.Score(ctx, c, s.Model.Hidden(c), kernels.Tensor{})
	s.host.best = resize(s.host.best, len(s.host.target))
	return s.sums(s.host.best)
}

// Logits runs sequences, with cache if it is not nil, and fills dst with the logits of the last len(dst)/Vocab tokens.
func (s *Stage) Logits(ctx context.Context, seqs []model.Sequence, cache model.Cache, dst []float32) error {
	s.use(0)
	c := s.start(ctx, false, 0, seqs)
	c.Cache = cache
	s.hidden = s.Model.Hidden(c)
	return s.logits(ctx, c, dst)
}

// logits fills dst with the logits of the last tokens of the pass.
func (s *Stage) logits(ctx context.Context, c *model.Ctx, dst []float32) error {
	y := s.Model.Logits(ctx, c, s.hidden, len(dst)/s.Model.Config.Vocab)
	if err := s.tape.Err(); err != nil {
		return err
	}
	err := s.Stream.Download(dst, y)
	s.Model.Cap(dst)
	return err
}

func (s *Stage) start(ctx context.Context, train bool, step uint64, seqs []model.Sequence) *model.Ctx {
	s.tape.Begin(ctx, train)
	if s.stale && !s.half.None() {
		s.Stream.Copy(s.half, s.W)
	}
	s.stale = false
	c := &s.pass
	c.Tape, c.Over, c.Cache, c.Train, c.Checkpoint, c.Noise = s.tape, s.Over, nil, train, s.Checkpoint, s.Noise
	c.Group = s.Group
	s.Model.Feed(c, step, seqs)
	s.host.target = c.Targets()
	return c
}

// sums waits for the pass's scores and adds them up; best has room for the most likely tokens, or is nil.
func (s *Stage) sums(best []int32) (objective.Sums, error) {
	if err := s.tape.Err(); err != nil {
		return objective.Sums{}, err
	}
	h := &s.host
	if best != nil {
		if err := s.Stream.DownloadI32(best, s.scores.Best); err != nil {
			return objective.Sums{}, err
		}
	}
	h.logp = resize(h.logp, len(h.target))
	if err := s.Stream.Download(h.logp, s.scores.LogP); err != nil {
		return objective.Sums{}, err
	}
	return objective.CrossEntropy{}.Loss(h.logp, h.target, best), nil
}

// ZeroGrad starts the next contribution: G is undefined until a Backward, which writes it.
func (s *Stage) ZeroGrad() { s.weights.Blank() }

// resize is v with n elements of undefined values; it keeps its memory if that is enough.
func resize[E any](v []E, n int) []E { return slices.Grow(v[:0], n)[:n] }
