// Package model turns a Hugging Face directory into a model that runs forward on a tape.
//
// One file holds one architecture, forward only, and reads like its paper. Linear is the only way to a matrix product
// with a weight: biases, the two storage orders and overlays (adapters) live there. Names of weights are Hugging Face's.
//
// A model is a row of units: 0 the embedding, 1…L the blocks, L+1 the head, and L+2 the token table where both ends
// share it. A Part is a run of them. A block's input and output is the residual stream alone, so that a stage border, a checkpoint and a gathered
// unit see one tensor. Activations are (N, C): N tokens of all sequences, no padding; see Feed.
//
// Files come from strangers: config.json and the headers of the weights are bounded and checked against each other
// before memory is taken, and what shoal cannot compute is refused by name.
//
// Concurrency. A Model is read-only once opened and may serve several tapes at a time.
package model

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Files opens the files of a model directory.
type Files = safetensors.Files

// Block is one transformer block: residual stream in, residual stream out.
type Block interface {
	Forward(c *Ctx, x autograd.Var) autograd.Var
}

// ends are what an architecture has around its blocks.
type ends interface {
	embed(c *Ctx) autograd.Var                 // tokens to the residual stream
	final(c *Ctx, x autograd.Var) autograd.Var // the last normalisation
}

// Cache keeps keys and values of earlier tokens. Append adds this pass's and returns all of them, as Seqs describes.
type Cache interface {
	Append(s *kernels.Stream, layer int, k, v kernels.Tensor) (keys, values kernels.Tensor)
}

// Ctx is what a pass carries through the model. One that serves the next pass too saves its memory.
type Ctx struct {
	*autograd.Tape
	Over       Overlay // nil: the base alone
	Cache      Cache   // nil: attention sees this pass alone
	Train      bool    // dropout acts
	Noise      Noise   // on the embedding, where Train
	Group      Group   // the other shards; nil where the model is whole
	Checkpoint bool    // blocks keep their inputs alone and run again in the backward pass

	Shared autograd.Var // what the overlay made in Share for its other hooks

	Batch
	laidOut laidOut // where Feed puts the batch together
	first   bool    // of the shards; also where the model is whole
}

// Model is a model without its weights' values.
type Model struct {
	Config *Config
	Params []*autograd.Param // in model order: by unit, then as the forward uses them
	Blocks []Block
	Linear []*Linear // of all blocks, in model order; the head is not among them

	ends
	head   *autograd.Param // (V, C)
	tied   int             // unit of the shared token table, 0: not shared
	stored map[*autograd.Param]string
	pools  map[*autograd.Param]*pooling // weights with heads that become fewer
	group  int                          // heads that become one; 1: none
	set    *safetensors.Set

	shard   Shard
	slices  map[*autograd.Param]*slice // weights that the shard holds a part of
	addends map[*autograd.Param]bool
}

// Units is the number of units.
func (m *Model) Units() int {
	if m.tied != 0 {
		return m.tied + 1
	}
	return m.headUnit() + 1
}

func (m *Model) headUnit() int { return len(m.Blocks) + 1 }

// with adds the shared table's unit to one that uses the table.
func (m *Model) with(unit int) []int {
	if m.tied != 0 {
		return []int{unit, m.tied}
	}
	return []int{unit}
}

// Hidden runs the model up to its head: h (N, C), normalised. It means nothing when the tape has an error.
func (m *Model) Hidden(c *Ctx) autograd.Var { return m.Run(c, autograd.Var{}, Part{0, m.Row()}) }

// Scores are the head's per-token numbers.
type Scores struct {
	LogP kernels.Tensor // (N, 1) log-probability of the target, 0 where there is none
	Best kernels.Tensor // I32 (N, 1) most likely token; only without Coef
	DH   kernels.Tensor // (N, C) gradient of h; only with Coef
}

// Score runs the head on h. With coef (N, 1) = d(loss)/d(LogP) it also gives the gradient of h and adds the head's own,
// in the same pass over the logits. The scores mean nothing when the tape has an error.
func (m *Model) Score(ctx context.Context, c *Ctx, h autograd.Var, coef kernels.Tensor) Scores {
	if !m.hold(ctx, c) {
		return Scores{}
	}
	defer c.W.Release(m.head.Unit, !coef.None())
	if !m.shard.whole() {
		s, err := m.scoreShard(ctx, c, h, coef)
		if err != nil {
			c.Fail(fmt.Errorf("head: %w", err))
		}
		return s
	}
	n := h.T.Rows
	s := Scores{LogP: c.Alloc(n, 1)}
	o := kernels.Head{H: h.T, W: c.Factor(m.head), Compute: c.Compute, Target: c.Target, LogP: s.LogP, Coef: coef, Softcap: m.Config.LogitCap}
	if coef.None() {
		s.Best = c.Ints(n, 1)
		o.Best = s.Best
	} else {
		s.DH = c.Alloc(n, h.T.Cols)
		o.DH = s.DH
		var mode kernels.Mode
		o.DW, mode = c.GradOf(m.head)
		o.SetW = mode == kernels.Set
	}
	c.S.Head(o)
	return s
}

// Logits is the head's output on the last rows tokens of h: (rows, V). A model that bounds its logits has them bounded by
// Cap, which is left to the host: those of a few tokens are all that anybody reads.
func (m *Model) Logits(ctx context.Context, c *Ctx, h autograd.Var, rows int) kernels.Tensor {
	if !m.hold(ctx, c) {
		return kernels.Tensor{}
	}
	defer c.W.Release(m.head.Unit, false)
	if !m.shard.whole() {
		c.Fail(errors.New("a shard of a model has the logits of its own tokens alone"))
		return kernels.Tensor{}
	}
	w := c.Factor(m.head)
	y := c.Alloc(rows, w.Rows)
	c.S.MatMul(y, h.T.SliceRows(h.T.Rows-rows, h.T.Rows), w, kernels.MatMul{TB: true, Compute: c.Compute})
	return y
}

// Cap bounds logits as the model does, in place.
func (m *Model) Cap(logits []float32) {
	if m.Config.LogitCap == 0 {
		return
	}
	bound := float64(m.Config.LogitCap)
	for i, x := range logits {
		logits[i] = float32(bound * math.Tanh(float64(x)/bound))
	}
}

// hold acquires the head's weights; false: the pass has failed, now or before.
func (m *Model) hold(ctx context.Context, c *Ctx) bool {
	if c.Err() != nil {
		return false
	}
	if err := c.W.Acquire(ctx, m.head.Unit); err != nil {
		c.Fail(fmt.Errorf("head: %w", err))
		return false
	}
	return true
}
