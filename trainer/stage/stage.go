// Package stage runs a range of a model's units on one device: it owns the device memory of their weights and
// gradients, and turns sequences into losses and gradients, one micro-batch at a time. Today a stage holds all units.
//
// What is trained lies in one flat vector in the order of the job's index space, and so does its gradient, to which
// every backward pass adds. What is frozen lies beside it, read-only.
//
// Concurrency. A Stage belongs to one goroutine at a time.
package stage

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// slab is how much device memory the arena of activations takes at a time.
const slab = 4 << 20 // bytes

// Adapter is an overlay with weights of its own.
type Adapter interface {
	model.Overlay
	Weights() []*autograd.Param
	Read(p *autograd.Param, dst []float32) error // what p starts from
}

// Stage is a model on a device.
type Stage struct {
	Model *model.Model
	Over  model.Overlay     // nil: none
	Train []*autograd.Param // what is trained, in the order of the index space; its Off are set
	W, G  kernels.Tensor    // (1, Elems) weights and gradient of what is trained; the zero Tensor when nothing is

	Checkpoint bool // blocks keep only their inputs for the backward pass: a third more work, far less memory

	Stream  *kernels.Stream
	weights *autograd.Resident
	tape    *autograd.Tape
	arena   *kernels.Arena

	hidden autograd.Var // of the forward pass that waits for its backward pass
	scores model.Scores
	target []int32
}

// New puts a model, and an adapter unless that is nil, on dev. Those of their parameters that are among trained learn;
// each has its place in the index space of elems elements. The others are frozen.
func New(dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, elems int) (*Stage, error) {
	s := &Stage{Model: m, Train: trained, Stream: kernels.NewStream(dev), weights: autograd.NewResident(),
		arena: kernels.NewArena(dev, slab)}
	s.tape = autograd.New(s.Stream, s.weights, s.arena)
	if err := s.place(dev, elems); err != nil {
		return nil, err
	}
	err := s.load(dev, m.Params, m.Read)
	if a != nil && err == nil {
		s.Over = a
		err = s.load(dev, a.Weights(), a.Read)
	}
	if err == nil {
		err = s.Stream.Sync(context.Background())
	}
	if err != nil {
		return nil, fmt.Errorf("load weights: %w", err)
	}
	return s, nil
}

// place takes memory for what is trained.
func (s *Stage) place(dev kernels.Device, elems int) (err error) {
	if elems == 0 {
		return nil
	}
	if s.W, err = kernels.Alloc(dev, dtype.F32, 1, elems); err != nil {
		return err
	}
	if s.G, err = kernels.Alloc(dev, dtype.F32, 1, elems); err != nil {
		return err
	}
	for _, p := range s.Train {
		s.weights.Train(p, s.W, s.G)
	}
	return nil
}

// load reads weights, and takes memory for those that are not trained.
func (s *Stage) load(dev kernels.Device, params []*autograd.Param, read func(*autograd.Param, []float32) error) error {
	for _, p := range params {
		if !slices.Contains(s.Train, p) {
			t, err := kernels.Alloc(dev, dtype.F32, p.Rows, p.Cols)
			if err != nil {
				return err
			}
			s.weights.Freeze(p, t)
		}
		v := make([]float32, p.Len())
		if err := read(p, v); err != nil {
			return err
		}
		s.Stream.Upload(s.weights.Value(p), v)
	}
	return s.Stream.Err()
}

// Value reads p's value of now from the device.
func (s *Stage) Value(p *autograd.Param) ([]float32, error) {
	v := make([]float32, p.Len())
	return v, s.Stream.Download(v, s.weights.Value(p))
}

// Forward runs one micro-batch of checked sequences and returns what it adds up to. Backward then adds its gradient.
// step counts optimizer steps from 1.
func (s *Stage) Forward(ctx context.Context, step uint64, seqs []model.Sequence) (objective.Sums, error) {
	c := s.begin(ctx, true, step, seqs)
	var ce objective.CrossEntropy
	coef := make([]float32, len(s.target))
	ce.Grad(s.target, coef)
	up := c.Alloc(len(coef), 1)
	c.S.Upload(up, coef)

	s.hidden = s.Model.Hidden(c)
	s.scores = s.Model.Score(ctx, c, s.hidden, up)
	logp := make([]float32, len(s.target))
	if err := s.read(logp, nil); err != nil {
		return objective.Sums{}, err
	}
	return ce.Loss(logp, s.target, nil), nil
}

// Backward adds the gradient of the last Forward's summed loss to G.
func (s *Stage) Backward(ctx context.Context) error {
	return s.tape.Backward(ctx, []autograd.Var{s.hidden}, []kernels.Tensor{s.scores.DH})
}

// Eval is a forward pass that keeps nothing and also counts correct tokens.
func (s *Stage) Eval(ctx context.Context, seqs []model.Sequence) (objective.Sums, error) {
	c := s.begin(ctx, false, 0, seqs)
	s.scores = s.Model.Score(ctx, c, s.Model.Hidden(c), kernels.Tensor{})
	logp, best := make([]float32, len(s.target)), make([]int32, len(s.target))
	if err := s.read(logp, best); err != nil {
		return objective.Sums{}, err
	}
	return objective.CrossEntropy{}.Loss(logp, s.target, best), nil
}

// Logits runs sequences, with cache if it is not nil, and fills dst with the logits of the last len(dst)/Vocab tokens.
func (s *Stage) Logits(ctx context.Context, seqs []model.Sequence, cache model.Cache, dst []float32) error {
	c := s.begin(ctx, false, 0, seqs)
	c.Cache = cache
	y := s.Model.Logits(ctx, c, s.Model.Hidden(c), len(dst)/s.Model.Config.Vocab)
	if err := s.tape.Err(); err != nil {
		return err
	}
	return s.Stream.Download(dst, y)
}

func (s *Stage) begin(ctx context.Context, train bool, step uint64, seqs []model.Sequence) *model.Ctx {
	s.tape.Begin(ctx, train)
	c := &model.Ctx{Tape: s.tape, Over: s.Over, Train: train, Checkpoint: s.Checkpoint}
	s.target = s.target[:0]
	for _, q := range seqs {
		if q.Target != nil {
			s.target = append(s.target, q.Target...)
			continue
		}
		for range q.IDs {
			s.target = append(s.target, objective.Ignore)
		}
	}
	s.Model.Feed(c, step, seqs)
	return c
}

func (s *Stage) read(logp []float32, best []int32) error {
	if err := s.tape.Err(); err != nil {
		return err
	}
	if best != nil {
		if err := s.Stream.DownloadI32(best, s.scores.Best); err != nil {
			return err
		}
	}
	return s.Stream.Download(logp, s.scores.LogP)
}

// ZeroGrad clears G: the next contribution starts.
func (s *Stage) ZeroGrad() {
	if !s.G.None() {
		s.Stream.Fill(s.G, 0)
	}
}
