package cpu

// attnBack adds the gradients to an attn.
type attnBack struct {
	attn
	dq, do             matrix
	dk, dv             mat[float32] // in scratch memory where the outputs are bfloat16
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
	a.dq, a.do = x.t[0], x.t[3]
	a.dk, a.dv = x.sums(1), x.sums(2)
	a.dprefixK, a.dprefixV, a.add = x.t[14].mat, x.t[15].mat, x.adds(6)
	x.rows(a.dk.rows, 2*a.dk.cols, func(x *call, w *worker, i int) {
		x.begin(w, 1, i, x.attn.dk)
		x.begin(w, 2, i, x.attn.dv)
	})
	a.groups = len(a.klen)
	if a.groups > 0 && (a.dprefixK.rows > 0 || a.shared()) {
		a.groups = 1 // what sequences share is summed by one task, in order
	}
	x.tasks(a.groups*a.kvHeads, func(x *call, w *worker, i int) { x.attn.group(w, i/x.attn.kvHeads, i%x.attn.kvHeads) })
	if x.t[1].half != nil || x.t[2].half != nil {
		x.rows(a.dk.rows, 2*a.dk.cols, func(x *call, w *worker, i int) {
			x.put(w, 1, i, x.attn.dk.row(i))
			x.put(w, 2, i, x.attn.dv.row(i))
		})
	}
	return nil
}

// sums is an F32 output, or memory for its sums in place of BF16.
func (x *call) sums(place int) mat[float32] {
	m := &x.t[place]
	return x.pool.work[0].sums(scratchSums2+place, m)
}

// begin sets a row of sums to what they start from: zero, or the output in Add mode.
func (x *call) begin(w *worker, place, i int, sums mat[float32]) {
	switch m := &x.t[place]; {
	case !x.attn.add:
		clear(sums.row(i))
	case m.half != nil:
		w.widen(sums.row(i), m.half[i*m.ld:i*m.ld+m.cols])
	}
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
	do, q := operand{matrix: a.head(a.do, b.lo, b.hi, h)}, operand{matrix: a.head(a.q, b.lo, b.hi, h)}
	slopes := a.turnToProbabilities(w, p, b, h)
	both, n := a.parts(b, kv)
	parts := both[:n]
	for _, t := range parts {
		a.multiply(w, product{c: matrix{mat: ds.window(0, ds.rows, t.lo, t.hi)}, a: do, b: operand{matrix: t.v, trans: true}})
		if t.dv.rows > 0 {
			a.multiply(w, product{c: matrix{mat: t.dv}, a: plain(p.window(0, p.rows, t.lo, t.hi), true), b: do, add: true})
		}
	}
	o := a.head(a.o, b.lo, b.hi, h)
	for i := range p.rows {
		w.set(w.dot(w.open(&do.matrix, 0, i*do.ld, a.dim), w.open(&o, 1, i*o.ld, a.dim)), a.scale)
		w.apply(&w.fam.softBack, p.cols, ds.row(i), p.row(i), ds.row(i))
		if a.softcap > 0 {
			w.apply(&w.fam.mul, p.cols, ds.row(i), ds.row(i), slopes.row(i))
		}
	}
	to := a.head(a.dq, b.lo, b.hi, h)
	dq, add := w.sums(scratchOut, &to), a.add
	for i := 0; i < dq.rows && add && to.half != nil; i++ {
		w.widen(dq.row(i), to.half[i*to.ld:i*to.ld+to.cols])
	}
	for _, t := range parts {
		part := ds.window(0, ds.rows, t.lo, t.hi)
		a.multiply(w, product{c: matrix{mat: dq}, a: plain(part, false), b: operand{matrix: t.k}, add: add})
		if add = true; t.dk.rows > 0 {
			a.multiply(w, product{c: matrix{mat: t.dk}, a: plain(part, true), b: q, add: true})
		}
	}
	for i := 0; i < dq.rows && to.half != nil; i++ {
		w.close(&to, i*to.ld, dq.row(i))
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
	lo, hi int
	k, v   matrix
	dk, dv mat[float32]
}

// parts are the prefix, if there is one, and the keys in sight of the block; n says how many there are.
func (a *attnBack) parts(b queries, kv int) (out [2]part, n int) {
	if rows := a.prefix; rows > 0 {
		out[0] = part{lo: 0, hi: rows, k: matrix{mat: a.prefixHead(a.prefixK, kv)}, v: matrix{mat: a.prefixHead(a.prefixV, kv)}}
		if a.dprefixK.rows > 0 {
			out[0].dk, out[0].dv = a.prefixHead(a.dprefixK, kv), a.prefixHead(a.dprefixV, kv)
		}
		n = 1
	}
	klo, khi := a.keys(b)
	lo, hi := int(a.kstart[b.s])+klo, int(a.kstart[b.s])+khi
	out[n] = part{a.prefix, a.prefix + khi - klo, a.head(a.k, lo, hi, kv), a.head(a.v, lo, hi, kv),
		a.dk.window(lo, hi, kv*a.dim, (kv+1)*a.dim), a.dv.window(lo, hi, kv*a.dim, (kv+1)*a.dim)}
	return out, n + 1
}
