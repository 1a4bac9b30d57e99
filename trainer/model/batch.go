package model

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Sequence is the tokens of one sequence in a pass.
type Sequence struct {
	IDs    []int32
	Target []int32 // the token that each position has to predict, -1: none; nil: none at all
	Past   int     // tokens of it that the cache holds already, from row 0
	Key    int32   // which sample it is, for counter-based randomness
}

// Batch is the sequences of a pass on the device. Rows of all of them follow each other.
type Batch struct {
	Seqs      kernels.Seqs
	IDs       autograd.Rows  // into the token table
	Positions autograd.Rows  // into a table of positions
	Target    kernels.Tensor // I32 (N, 1)
	Freq      kernels.Tensor // (1, headDim/2) rotary frequencies; none where the model has no rotation
	Step      kernels.Tensor // I32 (1, 1) optimizer step, for counter-based randomness
}

// Check says why a sequence cannot run through the model, or nil.
func (m *Model) Check(q Sequence) error {
	if n := q.Past + len(q.IDs); len(q.IDs) == 0 || n > m.Config.MaxPos {
		return fmt.Errorf("sequence of %d tokens, the model takes 1 to %d", n, m.Config.MaxPos)
	}
	if q.Target != nil && len(q.Target) != len(q.IDs) {
		return fmt.Errorf("%d targets for %d tokens", len(q.Target), len(q.IDs))
	}
	for _, id := range q.IDs {
		if id < 0 || int(id) >= m.Config.Vocab {
			return fmt.Errorf("token %d is not in the model's vocabulary of %d", id, m.Config.Vocab)
		}
	}
	for _, id := range q.Target {
		if id < -1 || int(id) >= m.Config.Vocab {
			return fmt.Errorf("target token %d is not in the model's vocabulary of %d", id, m.Config.Vocab)
		}
	}
	return nil
}

// Feed puts checked sequences on the device as c's batch; step counts optimizer steps.
func (m *Model) Feed(c *Ctx, step uint64, seqs []Sequence) {
	h := layOut(seqs)
	n := len(h.ids)
	c.Seqs = kernels.Seqs{N: n, Count: len(seqs), MaxQ: h.maxQ, MaxK: h.maxK,
		QStart: c.ints(h.qStart, 1), KStart: c.ints(h.kStart, 1), KLen: c.ints(h.kLen, 1),
		Pos: c.ints(h.pos, 1), Key: c.ints(h.key, 2)}
	c.IDs = autograd.Rows{IDs: c.ints(h.ids, 1), Order: c.ints(sorted(h.ids), 1)}
	c.Positions = autograd.Rows{IDs: c.Seqs.Pos, Order: c.ints(sorted(h.pos), 1)}
	c.Target = c.ints(h.target, 1)
	c.Step = c.ints([]int32{int32(step)}, 1)
	c.Freq = kernels.Tensor{}
	if f := m.Config.Freq; f != nil {
		c.Freq = c.Alloc(1, len(f))
		c.S.Upload(c.Freq, f)
	}
}

func (c *Ctx) ints(v []int32, cols int) kernels.Tensor {
	t := c.Ints(len(v)/cols, cols)
	c.S.UploadI32(t, v)
	return t
}

// laidOut is a batch as the host sees it.
type laidOut struct {
	ids, pos, target, key []int32
	qStart, kStart, kLen  []int32
	maxQ, maxK            int
}

func layOut(seqs []Sequence) (h laidOut) {
	for _, q := range seqs {
		start := len(h.ids)
		h.qStart = append(h.qStart, int32(start))
		if q.Past > 0 {
			h.kStart = append(h.kStart, 0)
		} else {
			h.kStart = append(h.kStart, int32(start))
		}
		h.kLen = append(h.kLen, int32(q.Past+len(q.IDs)))
		h.maxQ, h.maxK = max(h.maxQ, len(q.IDs)), max(h.maxK, q.Past+len(q.IDs))
		for i, id := range q.IDs {
			h.ids, h.pos = append(h.ids, id), append(h.pos, int32(q.Past+i))
			h.key = append(h.key, q.Key, int32(q.Past+i))
			if q.Target == nil {
				h.target = append(h.target, -1)
			} else {
				h.target = append(h.target, q.Target[i])
			}
		}
	}
	h.qStart = append(h.qStart, int32(len(h.ids)))
	return h
}

// sorted is the order that sorts ids stably.
func sorted(ids []int32) []int32 {
	order := make([]int32, len(ids))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(ids[a], ids[b]) })
	return order
}
