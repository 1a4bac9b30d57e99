package cpu

import (
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// queryBlock is how many queries share a tile of scores: the scores of one tile are all that is ever held of the
// (T, T) matrix.
const queryBlock = 64

// attn is one attention command, unpacked.
type attn struct {
	o, q, k, v           matrix
	lse                  mat[float32]
	prefixK, prefixV     mat[float32]
	qstart, kstart, klen []int32
	heads, kvHeads, dim  int
	window               int
	scale, softcap       float32
	prefix               int        // rows of prefixK
	blocks               []queries  // of all sequences
	first                []int      // where those of each sequence start, and their number
	compute              dtype.Type // of products
}

// queries is a block of queries [lo, hi) of sequence s, as rows of q; first is the place of its first own key among the
// sequence's keys.
type queries struct{ s, lo, hi, first int }

// open unpacks a command. The lists keep their memory from one command to the next.
func (a *attn) open(x *call, ins [5]int, tables int) error {
	c := x.cmd
	t := &c.T
	a.o, a.lse, a.q, a.k, a.v = x.t[ins[0]], x.t[ins[1]].mat, x.t[ins[2]], x.t[ins[3]], x.t[ins[4]]
	a.qstart, a.kstart, a.klen = column(a.qstart, t[tables]), column(a.kstart, t[tables+1]), column(a.klen, t[tables+2])
	a.prefixK, a.prefixV = x.t[tables+3].mat, x.t[tables+4].mat
	a.heads, a.kvHeads, a.dim, a.window = int(c.I[0]), int(c.I[1]), int(c.I[2]), int(c.I[3])
	a.scale, a.softcap, a.compute = c.F[0], c.F[1], dtype.Type(c.I[7])
	a.prefix = a.prefixK.rows
	if err := a.check(); err != nil {
		return err
	}
	a.blocks, a.first = a.blocks[:0], a.first[:0]
	for s := range a.klen {
		a.first = append(a.first, len(a.blocks))
		a.cut(s)
	}
	a.first = append(a.first, len(a.blocks))
	return nil
}

func column(out []int32, t kernels.Tensor) []int32 {
	m := i32(t)
	out = out[:0]
	for i := range m.rows {
		out = append(out, m.row(i)[0])
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

// cut appends the query blocks of a sequence.
func (a *attn) cut(s int) {
	q, end := int(a.qstart[s]), int(a.qstart[s+1])
	ahead := int(a.klen[s]) - (end - q) // keys before the first query's own
	for at := q; at < end; at += queryBlock {
		a.blocks = append(a.blocks, queries{s: s, lo: at, hi: min(end, at+queryBlock), first: ahead + at - q})
	}
}

// keys is the range of the sequence's keys that the block sees at all.
func (a *attn) keys(b queries) (lo, hi int) {
	hi = b.first + b.hi - b.lo
	if a.window > 0 {
		lo = max(0, b.first-a.window+1)
	}
	return lo, hi
}

func attention(_ *Device, x *call) error {
	a := &x.attn.attn
	if err := a.open(x, [5]int{0, 1, 2, 3, 4}, 5); err != nil {
		return err
	}
	x.tasks(len(a.blocks)*a.heads, func(x *call, w *worker, i int) {
		a := &x.attn.attn
		a.forward(w, a.blocks[i/a.heads], i%a.heads)
	})
	return nil
}

// forward computes one block of queries of one head. Rows of probabilities are normalized last, as rows of the output.
func (a *attn) forward(w *worker, b queries, h int) {
	s := a.scores(w, b, h)
	norm := w.scratch(scratchRow, s.rows)
	for i := range s.rows {
		x := a.seen(s.row(i), b, i)
		m := float32(w.max(x) * a.factor())
		w.set(m, a.factor())
		sum := w.reduce(&w.fam.expScale, len(x), x, x)
		a.lse.row(b.lo + i)[h] = m + float32(math.Log(float64(sum)))
		norm[i] = 1 / sum
	}
	to := a.head(a.o, b.lo, b.hi, h)
	o := w.sums(scratchOut, &to)
	klo, khi := a.keys(b)
	kv, base := h/(a.heads/a.kvHeads), int(a.kstart[b.s])
	if a.prefix > 0 {
		a.multiply(w, product{c: matrix{mat: o}, a: plain(s.window(0, s.rows, 0, a.prefix), false), b: plain(a.prefixHead(a.prefixV, kv), false)})
	}
	a.multiply(w, product{c: matrix{mat: o}, a: plain(s.window(0, s.rows, a.prefix, s.cols), false),
		b: operand{matrix: a.head(a.v, base+klo, base+khi, kv)}, add: a.prefix > 0})
	for i := range o.rows {
		w.set(norm[i])
		w.apply(&w.fam.scale, o.cols, o.row(i), o.row(i))
		w.close(&to, i*to.ld, o.row(i))
	}
}

// factor is what scores are still to be multiplied by: the scale, unless a softcap has used it.
func (a *attn) factor() float32 {
	if a.softcap > 0 {
		return 1
	}
	return a.scale
}

// scores fills a tile with q·kᵀ of the block, capped where there is a softcap: the prefix keys' columns first, then
// those of the keys in sight.
func (a *attn) scores(w *worker, b queries, h int) mat[float32] {
	klo, khi := a.keys(b)
	rows, cols := b.hi-b.lo, a.prefix+khi-klo
	s := mat[float32]{w.scratch(scratchTile, rows*cols), rows, cols, cols}
	kv, base := h/(a.heads/a.kvHeads), int(a.kstart[b.s])
	q := operand{matrix: a.head(a.q, b.lo, b.hi, h)}
	if a.prefix > 0 {
		a.multiply(w, product{c: matrix{mat: s.window(0, rows, 0, a.prefix)}, a: q, b: plain(a.prefixHead(a.prefixK, kv), true)})
	}
	a.multiply(w, product{c: matrix{mat: s.window(0, rows, a.prefix, cols)}, a: q, b: operand{matrix: a.head(a.k, base+klo, base+khi, kv), trans: true}})
	for i := 0; i < rows && a.softcap > 0; i++ {
		row := s.row(i)
		w.set(a.scale)
		w.apply(&w.fam.scale, cols, row, row)
		capRow(row, a.softcap)
	}
	return s
}

// seen is the run of a row of scores that holds all that query i of the block sees; what it does not see inside is
// -Inf, and outside 0, for the products that follow read whole rows.
func (a *attn) seen(row []float32, b queries, i int) []float32 {
	klo, _ := a.keys(b)
	own := b.first + i
	hi := a.prefix + own + 1 - klo
	clear(row[hi:])
	first := 0 // key in sight
	if a.window > 0 {
		first = max(0, own-a.window+1-klo)
	}
	if a.prefix == 0 {
		clear(row[:first])
		return row[first:hi]
	}
	for j := range first {
		row[a.prefix+j] = negInf
	}
	return row[:hi]
}

// multiply runs a product on this worker in the type that the op computes in.
func (a *attn) multiply(w *worker, p product) {
	p.compute = a.compute
	w.gemm(p)
}

// head is the columns of head h, rows [lo, hi), of a matrix with heads side by side.
func (a *attn) head(m matrix, lo, hi, h int) matrix { return m.window(lo, hi, h*a.dim, (h+1)*a.dim) }

// prefixHead is the same of a prefix, which is float32, with all its rows.
func (a *attn) prefixHead(m mat[float32], h int) mat[float32] {
	return m.window(0, m.rows, h*a.dim, (h+1)*a.dim)
}

// sums is a float32 result itself, or scratch memory of its shape in place of bfloat16.
func (w *worker) sums(which int, m *matrix) mat[float32] {
	if m.half == nil {
		return m.mat
	}
	return mat[float32]{w.scratch(which, m.rows*m.cols), m.rows, m.cols, m.cols}
}

// capRow squashes scores to limit·tanh(x/limit).
func capRow(row []float32, limit float32) {
	for i, x := range row {
		row[i] = limit * float32(math.Tanh(float64(x/limit)))
	}
}
