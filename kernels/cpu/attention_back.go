package cpu

// attnBack adds the gradients to an attn.
type attnBack struct {
	attn
	dq, dk, dv, do     mat[float32]
	dprefixK, dprefixV mat[float32]
	add                bool
	groups             int // sequences that are tasks by themselves, or 1
}

// attentionBack recomputes the scores tile by tile (Dao et al. 2022, arXiv:2205.14135). A task owns the key head of a
// sequence and walks its query heads and blocks in order, so that sums of dk and dv have one order.
func attentionBack(_ *Device, x *call) error {
	a := &x.attn
	if err := a.open(x, [5]int{7, 8, 4, 5, 6}, 9); err != nil {
		return err
	}
	a.dq, a.dk, a.dv, a.do = x.t[0], x.t[1], x.t[2], x.t[3]
	a.dprefixK, a.dprefixV, a.add = x.t[14], x.t[15], x.adds(6)
	if !a.add {
		x.rows(a.dk.rows, 2*a.dk.cols, func(x *call, _ *worker, i int) {
			clear(x.attn.dk.row(i))
			clear(x.attn.dv.row(i))
		})
	}
	a.groups = len(a.klen)
	if a.groups > 0 && (a.dprefixK.rows > 0 || a.shared()) {
		a.groups = 1 // what sequences share is summed by one task, in order
	}
	x.tasks(a.groups*a.kvHeads, func(x *call, w *worker, i int) { x.attn.group(w, i/x.attn.kvHeads, i%x.attn.kvHeads) })
	return nil
}

// group walks the blocks of a sequence, or of all of them, for a key head.
func (a *attnBack) group(w *worker, g, kv int) {
	lo, hi := a.first[g], a.first[g+1]
	if a.groups == 1 {
		lo, hi = 0, len(a.blocks)
	}
	for _, b := range a.blocks[lo:hi] {
		for h := kv * (a.heads / a.kvHeads); h < (kv+1)*(a.heads/a.kvHeads); h++ {
			a.backward(w, b, h, kv)
		}
	}
}

// shared reports whether key rows of sequences may overlap.
func (a *attn) shared() bool {
	for s := 1; s < len(a.klen); s++ {
		if a.kstart[s] < a.kstart[s-1]+a.klen[s-1] {
			return true
		}
	}
	return false
}

// backward is one block of queries of head h. With P the probabilities and D = rowsum(do·o):
//
//	dv += Pᵀ·do;  dS = P·(do·vᵀ - D)·scale (· slope of the softcap);  dq = dS·k;  dk += dSᵀ·q
func (a *attnBack) backward(w *worker, b queries, h, kv int) {
	p := a.scores(w, b, h)
	ds := mat[float32]{w.scratch(scratchTile2, p.rows*p.cols), p.rows, p.cols, p.cols}
	do, q := a.head(a.do, b.lo, b.hi, h), a.head(a.q, b.lo, b.hi, h)
	slopes := a.turnToProbabilities(w, p, b, h)
	both, n := a.parts(b, kv)
	parts := both[:n]
	for _, t := range parts {
		a.multiply(w, product{c: matrix{mat: ds.window(0, ds.rows, t.lo, t.hi)}, a: plain(do, false), b: plain(t.v, true)})
		if t.dv.rows > 0 {
			a.multiply(w, product{c: matrix{mat: t.dv}, a: plain(p.window(0, p.rows, t.lo, t.hi), true), b: plain(do, false), add: true})
		}
	}
	o := a.head(a.o, b.lo, b.hi, h)
	for i := range p.rows {
		w.set(w.dot(do.row(i), o.row(i)), a.scale)
		w.apply(&w.fam.softBack, p.cols, ds.row(i), p.row(i), ds.row(i))
		if a.softcap > 0 {
			w.apply(&w.fam.mul, p.cols, ds.row(i), ds.row(i), slopes.row(i))
		}
	}
	add := a.add
	for _, t := range parts {
		part := ds.window(0, ds.rows, t.lo, t.hi)
		a.multiply(w, product{c: matrix{mat: a.head(a.dq, b.lo, b.hi, h)}, a: plain(part, false), b: plain(t.k, false), add: add})
		if add = true; t.dk.rows > 0 {
			a.multiply(w, product{c: matrix{mat: t.dk}, a: plain(part, true), b: plain(q, false), add: true})
		}
	}
}

// turnToProbabilities replaces scores by exp(score - lse). With a softcap it gives the cap's slopes at the scores.
func (a *attn) turnToProbabilities(w *worker, p mat[float32], b queries, h int) (slopes mat[float32]) {
	if a.softcap > 0 {
		slopes = mat[float32]{w.scratch(scratchTile3, p.rows*p.cols), p.rows, p.cols, p.cols}
	}
	for i := range p.rows {
		x := a.seen(p.row(i), b, i)
		if a.softcap > 0 {
			a.capSlope(slopes.row(i), p.row(i))
		}
		w.set(a.lse.row(b.lo + i)[h], a.factor())
		w.apply(&w.fam.expScale, len(x), x, x)
	}
	return slopes
}

// capSlope is the derivative of the softcap at capped scores s: 1 - (s/cap)², and 0 for what is hidden.
func (a *attn) capSlope(slope, s []float32) {
	for i, x := range s {
		if slope[i] = 0; x != negInf {
			y := x / a.softcap
			slope[i] = 1 - float32(y*y)
		}
	}
}

// part is a run of columns [lo, hi) of a tile with its keys, values and their gradients.
type part struct {
	lo, hi       int
	k, v, dk, dv mat[float32]
}

// parts are the prefix, if there is one, and the keys in sight of the block; n says how many there are.
func (a *attnBack) parts(b queries, kv int) (out [2]part, n int) {
	if rows := a.prefix; rows > 0 {
		out[0] = part{lo: 0, hi: rows, k: a.head(a.prefixK, 0, rows, kv), v: a.head(a.prefixV, 0, rows, kv)}
		if a.dprefixK.rows > 0 {
			out[0].dk, out[0].dv = a.head(a.dprefixK, 0, rows, kv), a.head(a.dprefixV, 0, rows, kv)
		}
		n = 1
	}
	klo, khi := a.keys(b)
	lo, hi := int(a.kstart[b.s])+klo, int(a.kstart[b.s])+khi
	out[n] = part{a.prefix, a.prefix + khi - klo, a.head(a.k, lo, hi, kv), a.head(a.v, lo, hi, kv),
		a.head(a.dk, lo, hi, kv), a.head(a.dv, lo, hi, kv)}
	return out, n + 1
}
