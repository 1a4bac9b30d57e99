package cpu

import (
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// queryBlock is how many queries share a tile of scores: the scores of one tile are all that is ever held of the
// (T, T) matrix.
const queryBlock = 64

// attn is one attention command, unpacked.
type attn struct {
	o, lse, q, k, v      mat[float32]
	prefixK, prefixV     mat[float32]
	qstart, kstart, klen []int32
	heads, kvHeads, dim  int
	window               int
	scale, softcap       float32
	prefix               int // rows of prefixK
}

// queries is a block of queries [lo, hi) of sequence s, as rows of q; first is the place of its first own key among the
// sequence's keys.
type queries struct{ s, lo, hi, first int }

func newAttn(c *kernels.Cmd, ins [5]int, tables int) (*attn, error) {
	t := &c.T
	a := &attn{
		o: f32(t[ins[0]]), lse: f32(t[ins[1]]), q: f32(t[ins[2]]), k: f32(t[ins[3]]), v: f32(t[ins[4]]),
		qstart: column(i32(t[tables])), kstart: column(i32(t[tables+1])), klen: column(i32(t[tables+2])),
		prefixK: f32(t[tables+3]), prefixV: f32(t[tables+4]),
		heads: int(c.I[0]), kvHeads: int(c.I[1]), dim: int(c.I[2]), window: int(c.I[3]), scale: c.F[0], softcap: c.F[1],
	}
	a.prefix = a.prefixK.rows
	return a, a.check()
}

func column(m mat[int32]) []int32 {
	out := make([]int32, m.rows)
	for i := range out {
		out[i] = m.row(i)[0]
	}
	return out
}

// check refuses tables that reach outside the tensors.
func (a *attn) check() error {
	n := len(a.klen)
	if a.qstart[0] != 0 || int(a.qstart[n]) != a.q.rows {
		return fmt.Errorf("query rows [%d,%d) of %d", a.qstart[0], a.qstart[n], a.q.rows)
	}
	for s := range n {
		queries, lo, keys := int(a.qstart[s+1])-int(a.qstart[s]), int(a.kstart[s]), int(a.klen[s])
		if queries < 0 || keys < queries || lo < 0 || keys > a.k.rows-lo {
			return fmt.Errorf("sequence %d: %d queries, keys [%d,%d+%d) of %d", s, queries, lo, lo, keys, a.k.rows)
		}
	}
	return nil
}

// blocks lists the query blocks of the sequences [lo, hi).
func (a *attn) blocks(lo, hi int) []queries {
	var out []queries
	for s := lo; s < hi; s++ {
		q, end := int(a.qstart[s]), int(a.qstart[s+1])
		ahead := int(a.klen[s]) - (end - q) // keys before the first query's own
		for at := q; at < end; at += queryBlock {
			out = append(out, queries{s: s, lo: at, hi: min(end, at+queryBlock), first: ahead + at - q})
		}
	}
	return out
}

// keys is the range of the sequence's keys that the block sees at all.
func (a *attn) keys(b queries) (lo, hi int) {
	hi = b.first + b.hi - b.lo
	if a.window > 0 {
		lo = max(0, b.first-a.window+1)
	}
	return lo, hi
}

func attention(d *Device, c *kernels.Cmd) error {
	a, err := newAttn(c, [5]int{0, 1, 2, 3, 4}, 5)
	if err != nil {
		return err
	}
	blocks := a.blocks(0, len(a.klen))
	d.pool.each(len(blocks)*a.heads, func(w *worker, i int) { a.forward(w, blocks[i/a.heads], i%a.heads) })
	return nil
}

// head is the columns of head h, rows [lo, hi), of a matrix with heads side by side.
func (a *attn) head(m mat[float32], lo, hi, h int) mat[float32] {
	return m.window(lo, hi, h*a.dim, (h+1)*a.dim)
}

// forward computes one block of queries of one head.
func (a *attn) forward(w *worker, b queries, h int) {
	s := a.scores(w, b, h)
	for i := range s.rows {
		row := s.row(i)
		m := w.max(row)
		w.set(m)
		sum := w.reduce(&w.fam.expSum, len(row), row, row)
		w.set(1 / sum)
		w.apply(&w.fam.scale, len(row), row, row)
		a.lse.row(b.lo + i)[h] = m + float32(math.Log(float64(sum)))
	}
	o := a.head(a.o, b.lo, b.hi, h)
	klo, khi := a.keys(b)
	kv, base := h/(a.heads/a.kvHeads), int(a.kstart[b.s])
	if a.prefix > 0 {
		w.gemm(product{c: matrix{mat: o}, a: plain(s.window(0, s.rows, 0, a.prefix), false), b: plain(a.head(a.prefixV, 0, a.prefix, kv), false)})
	}
	w.gemm(product{c: matrix{mat: o}, a: plain(s.window(0, s.rows, a.prefix, s.cols), false), b: plain(a.head(a.v, base+klo, base+khi, kv), false),
		add: a.prefix > 0})
}

// scores fills a tile with q·kᵀ·scale of the block: the prefix keys' columns first, then those of the keys in sight.
// What a query does not see is -Inf.
func (a *attn) scores(w *worker, b queries, h int) mat[float32] {
	klo, khi := a.keys(b)
	rows, cols := b.hi-b.lo, a.prefix+khi-klo
	s := mat[float32]{w.scratch(scratchTile, rows*cols), rows, cols, cols}
	kv, base := h/(a.heads/a.kvHeads), int(a.kstart[b.s])
	q := plain(a.head(a.q, b.lo, b.hi, h), false)
	if a.prefix > 0 {
		w.gemm(product{c: matrix{mat: s.window(0, rows, 0, a.prefix)}, a: q, b: plain(a.head(a.prefixK, 0, a.prefix, kv), true)})
	}
	w.gemm(product{c: matrix{mat: s.window(0, rows, a.prefix, cols)}, a: q, b: plain(a.head(a.k, base+klo, base+khi, kv), true)})
	for i := range rows {
		row := s.row(i)
		w.set(a.scale)
		w.apply(&w.fam.scale, cols, row, row)
		if a.softcap > 0 {
			capRow(row, a.softcap)
		}
		a.hide(row[a.prefix:], b.first+i, klo)
	}
	return s
}

// hide masks the keys klo, klo+1, … that a query at place own among the sequence's keys does not see.
func (a *attn) hide(row []float32, own, klo int) {
	if a.window > 0 {
		for j := klo; j <= own-a.window; j++ {
			row[j-klo] = negInf
		}
	}
	for j := own + 1 - klo; j < len(row); j++ {
		row[j] = negInf
	}
}

// capRow squashes scores to limit·tanh(x/limit).
func capRow(row []float32, limit float32) {
	for i, x := range row {
		row[i] = limit * float32(math.Tanh(float64(x/limit)))
	}
}
