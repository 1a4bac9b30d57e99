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
	Past   int     // rows of it that the cache holds already, from row 0: tokens, and what the overlay put before them
	Key    int32   // which sample it is, for counter-based randomness
	Offset int     // positions of the sample that stand before it, where several sequences are one sample
}

// Batch is the sequences of a pass on the device. Rows of all of them follow each other.
type Batch struct {
	Seqs      kernels.Seqs
	IDs       autograd.Rows  // into the token table
	Positions autograd.Rows  // into a table of positions
	Target    kernels.Tensor // I32 (N, 1)
	Freq      kernels.Tensor // (1, headDim/2) rotary frequencies; none where the model has no rotation
	Step      kernels.Tensor // I32 (1, 1) optimizer step, for counter-based randomness
	Virtual   Virtual        // rows that the overlay puts before the texts
}

// Virtual are rows of a batch that are no tokens.
type Virtual struct {
	At   kernels.Tensor // I32 (rows, 1) their places in the batch; none: there are none in this pass
	Rows autograd.Rows  // which of the overlay's rows each is, from 0
}

// Check says why a sequence cannot run through the model, or nil.
func (m *Model) Check(q Sequence) error { return m.CheckOver(nil, q) }

// CheckOver is Check for a pass with an overlay, which may need positions of its own.
func (m *Model) CheckOver(o Overlay, q Sequence) error {
	before, _ := Before(o)
	if n := q.Past + len(q.IDs); len(q.IDs) == 0 || n > m.Config.MaxPos-before {
		return fmt.Errorf("sequence of %d tokens, the model takes 1 to %d", n, m.Config.MaxPos-before)
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
	h := &c.laidOut
	h.before, h.rows = Before(c.Over)
	h.step = step
	h.layOut(seqs)
	if c.first = m.shard.Rank == 0; m.shard.whole() {
		c.Group = nil
	}
	m.localIDs(h)
	c.Shared = autograd.Var{}
	n := len(h.ids)
	c.Seqs = kernels.Seqs{N: n, Count: len(seqs), MaxQ: h.maxQ, MaxK: h.maxK,
		QStart: c.ints(h.qStart, 1), KStart: c.ints(h.kStart, 1), KLen: c.ints(h.kLen, 1),
		Pos: c.ints(h.pos, 1), Key: c.ints(h.key, 2)}
	c.IDs = autograd.Rows{IDs: c.ints(h.ids, 1), Order: c.ints(h.sorted(h.ids), 1)}
	c.Positions = autograd.Rows{IDs: c.Seqs.Pos, Order: c.ints(h.sorted(h.pos), 1)}
	c.Target = c.ints(h.target, 1)
	c.Virtual = Virtual{}
	if len(h.virtual) > 0 {
		which := c.ints(h.which, 1)
		c.Virtual = Virtual{At: c.ints(h.virtual, 1), Rows: autograd.Rows{IDs: which, Order: c.ints(h.sorted(h.which), 1)}}
	}
	c.Step = c.ints(append(h.order[:0], int32(step)), 1)
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

// Targets are the targets of the batch's rows on the host, valid until the next Feed.
func (c *Ctx) Targets() []int32 { return c.laidOut.target }

// laidOut is a batch as the host sees it. Its slices keep their memory from pass to pass.
type laidOut struct {
	ids, pos, target, key []int32
	qStart, kStart, kLen  []int32
	maxQ, maxK            int
	noise                 []float32
	step                  uint64
	virtual, which        []int32 // places of rows that are no tokens, and which row each is
	before, rows          int     // of the overlay

	own   []bool  // of a shard: which tokens are in its part of the vocabulary
	order []int32 // of the last sorted
}

// localIDs makes ids rows of the shard's part of the token table; 0 where another shard has the token.
func (m *Model) localIDs(h *laidOut) {
	if m.shard.whole() {
		return
	}
	h.own = h.own[:0]
	voc := m.shard.of(m.Config.Vocab)
	for i, id := range h.ids {
		mine := int(id) >= voc.lo && int(id) < voc.hi
		h.own = append(h.own, mine)
		if h.ids[i] = id - int32(voc.lo); !mine {
			h.ids[i] = 0
		}
	}
}

func (h *laidOut) layOut(seqs []Sequence) {
	for _, s := range []*[]int32{&h.ids, &h.pos, &h.target, &h.key, &h.qStart, &h.kStart, &h.kLen, &h.virtual, &h.which} {
		*s = (*s)[:0]
	}
	h.maxQ, h.maxK = 0, 0
	for _, q := range seqs {
		h.add(q)
	}
	h.qStart = append(h.qStart, int32(len(h.ids)))
}

func (h *laidOut) add(q Sequence) {
	start := int32(len(h.ids))
	h.qStart = append(h.qStart, start)
	shift := h.before - h.rows + q.Past // from rows of this pass to positions
	if q.Past > 0 {
		start = 0 // of the cache
	} else {
		for i := range h.rows {
			h.virtual, h.which = append(h.virtual, int32(len(h.ids))), append(h.which, int32(i))
			h.row(q, 0, -1, int32(shift+i))
		}
		shift += h.rows
	}
	for i, id := range q.IDs {
		target := int32(-1)
		if q.Target != nil {
			target = q.Target[i]
		}
		h.row(q, id, target, int32(shift+i))
	}
	n := len(h.ids) - int(h.qStart[len(h.qStart)-1])
	h.kStart, h.kLen = append(h.kStart, start), append(h.kLen, int32(q.Past+n))
	h.maxQ, h.maxK = max(h.maxQ, n), max(h.maxK, q.Past+n)
}

func (h *laidOut) row(q Sequence, id, target, pos int32) {
	h.ids, h.pos, h.target = append(h.ids, id), append(h.pos, pos), append(h.target, target)
	h.key = append(h.key, q.Key, pos+int32(q.Offset))
}

// sorted is the order that sorts ids stably, valid until the next call.
func (h *laidOut) sorted(ids []int32) []int32 {
	h.order = h.order[:0]
	for i := range ids {
		h.order = append(h.order, int32(i))
	}
	slices.SortStableFunc(h.order, func(a, b int32) int { return cmp.Compare(ids[a], ids[b]) })
	return h.order
}
