package optim

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// AdamW8 is AdamW whose moments have 8 bits each (Dettmers et al. 2022, arXiv:2110.02861): a quarter of the memory.
// Blocks of 256 elements of a tensor share a scale; dtype.Dynamic has the form. M and V travel decoded, and encode to
// what they were.
type AdamW8 struct{ AdamW }

// Grain is a block, or the tensor where its last block is not whole.
func (a AdamW8) Grain(rows, cols int) int {
	if rows*cols%dtype.DynamicBlock == 0 {
		return dtype.DynamicBlock
	}
	return rows * cols
}

func (a AdamW8) Open(s *kernels.Stream, params []*autograd.Param, elems int) (Optimizer, error) {
	b := &blocks{memory: memory{s: s}, rule: a}
	n := 0
	for _, p := range params {
		b.parts = append(b.parts, part{lo: p.Off, hi: p.Off + p.Len(), scales: n, decays: a.decays(p)})
		n += dtype.Blocks(p.Len(), dtype.DynamicBlock)
	}
	if err := b.fill(elems, n); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// blocks is AdamW8 with its state.
type blocks struct {
	memory
	rule  AdamW8
	parts []part
	code  [2]kernels.Tensor // of M and V, I8 (1, elements)
	scale [2]kernels.Tensor // (1, blocks)
	wide  kernels.Tensor    // (1, widePart) for moments on their way in and out
	now   numbers
}

// part is a tensor [lo, hi) of the index space, whose blocks' scales begin at scales.
type part struct {
	lo, hi, scales int
	decays         bool
}

const widePart = 1 << 16 // elements, a multiple of the block

func (b *blocks) fill(elems, scales int) (err error) {
	for i := range b.code {
		if b.code[i], err = b.take(dtype.I8, max(elems, 1)); err != nil {
			return err
		}
		if b.scale[i], err = b.take(dtype.F32, max(scales, 1)); err != nil {
			return err
		}
	}
	if b.wide, err = b.take(dtype.F32, min(widePart, max(elems, 1))); err != nil {
		return err
	}
	b.now, err = b.numbers()
	return err
}

func (b *blocks) Step(n Now, w, g kernels.Tensor, lo, hi int) {
	now := b.now.put(b.s, func(decays bool) []float64 { return b.rule.hyper(n, decays) })
	for _, p := range b.parts {
		lo, hi := max(lo, p.lo), min(hi, p.hi)
		if lo >= hi {
			continue
		}
		mc, ms := b.cut(p, M, lo, hi)
		vc, vs := b.cut(p, V, lo, hi)
		b.s.AdamW8(w.SliceCols(lo, hi), g.SliceCols(lo, hi), mc, vc, ms, vs, now.of(p.decays))
	}
}

// cut is [lo, hi) of a part: whole blocks, but for the last of the part.
func (b *blocks) cut(p part, slot Slot, lo, hi int) (code, scale kernels.Tensor) {
	const block = dtype.DynamicBlock
	if (lo-p.lo)%block != 0 || hi < p.hi && (hi-p.lo)%block != 0 {
		panic("optim: a range that cuts blocks of 8 bit moments")
	}
	first := p.scales + (lo-p.lo)/block
	return b.code[slot].SliceCols(lo, hi), b.scale[slot].SliceCols(first, first+dtype.Blocks(hi-lo, block))
}

// each calls f for pieces of whole blocks that cover [lo, hi), none longer than wide.
func (b *blocks) each(slot Slot, lo, hi int, f func(lo, hi int, code, scale, wide kernels.Tensor) error) error {
	const block = dtype.DynamicBlock
	for _, p := range b.parts {
		if p.hi <= lo || p.lo >= hi {
			continue
		}
		for at := max(p.lo, lo-(lo-p.lo)%block); at < min(p.hi, hi); {
			end := min(p.hi, at+max(b.wide.Cols&^(block-1), min(block, b.wide.Cols)))
			code, scale := b.cut(p, slot, at, end)
			if err := f(at, end, code, scale, b.wide.SliceCols(0, end-at)); err != nil {
				return err
			}
			at = end
		}
	}
	return nil
}

// CopyFrom goes through decoded moments, which encode to what they were.
func (b *blocks) CopyFrom(o Optimizer) {
	from := o.(*blocks)
	for _, slot := range []Slot{M, V} {
		_ = from.each(slot, 0, from.code[slot].Cols, func(lo, hi int, code, scale, wide kernels.Tensor) error {
			from.s.Decode8(wide, code, scale, slot == M)
			return b.each(slot, lo, hi, func(_, _ int, code, scale, _ kernels.Tensor) error {
				b.s.Encode8(code, scale, wide, slot == M)
				return nil // errors stick to the stream
			})
		})
	}
}

func (b *blocks) Read(slot Slot, lo int, dst []float32) error {
	buf := make([]float32, b.wide.Cols)
	return b.each(slot, lo, lo+len(dst), func(from, to int, code, scale, wide kernels.Tensor) error {
		b.s.Decode8(wide, code, scale, slot == M)
		if err := b.s.Download(buf[:to-from], wide); err != nil {
			return err
		}
		skip := max(0, lo-from)
		copy(dst[from+skip-lo:], buf[skip:to-from])
		return nil
	})
}

func (b *blocks) Write(slot Slot, src []float32) {
	_ = b.each(slot, 0, len(src), func(from, to int, code, scale, wide kernels.Tensor) error {
		b.s.Upload(wide, src[from:to])
		b.s.Encode8(code, scale, wide, slot == M)
		return nil // errors stick to the stream
	})
}
