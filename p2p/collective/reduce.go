package collective

import (
	"slices"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// sum is one owned chunk added up over a set of pieces.
type sum struct {
	filled bool
	set    []PieceID // that are in it, in their order
	v      []float32
	sq     float64
}

// result is the reduced vector of one plan at this member, filled chunk by chunk.
type result struct {
	plan     *view
	totals   *Totals
	v        []float32
	got      []bool            // by chunk
	claimed  []bool            // by chunk: its data are being read into v
	hash     []Hash            // by chunk
	wire     [][]byte          // by chunk, in codecs other than fp32: owned ones as they travel
	residual map[int][]float32 // by owned chunk, in codecs other than fp32: what the codec dropped
	missing  int
	reduced  bool // owned chunks are staged and sent
	asked    bool // owners step: Step was made
	done     bool // Done was made

	kept   []bool // by chunk: not in got, but here from an earlier attempt, with its hash
	mine   []bool // by chunk: this member made it, of the marks in made
	made   []Mark
	weight int64 // made's
	again  bool  // an earlier attempt had begun a result
	lent   bool  // v was in the Done of an earlier attempt: see writable
}

// result is the staged result of the plan in force.
func (m *Machine) result() *result {
	if m.res == nil {
		n := len(m.plan.Chunks)
		m.res = &result{plan: m.plan, v: m.vector(), missing: n}
		m.res.got, m.res.claimed, m.res.hash = make([]bool, n), make([]bool, n), make([]Hash, n)
		m.res.kept, m.res.mine = make([]bool, n), make([]bool, n)
		if m.plan.Codec != exact.FP32 {
			m.res.wire, m.res.residual = make([][]byte, n), map[int][]float32{}
		}
		m.res.passOver()
	}
	if m.totals != nil {
		m.res.totals = m.totals
	}
	return m.res
}

// put takes a chunk that came from its owner: staged, or kept if that is the owner of an earlier attempt.
func (m *Machine) put(r *result, f *Frame) Refusal {
	ch := r.plan.Chunks[f.Chunk]
	if same(r.v[ch.Lo:ch.Hi], f.Data) { // it was read to its place
		r.claimed[f.Chunk] = false
	} else if r.claimed[f.Chunk] {
		return RefusedUnknown // as in expect
	} else {
		m.writable(r)
		dst := r.v[ch.Lo:ch.Hi]
		if f.Codec == exact.FP32 {
			copy(dst, f.Data)
		} else {
			f.Codec.Decode(dst, f.slice().wire)
		}
	}
	h := f.hash
	if h == nil {
		h = f.sum()
	}
	r.mine[f.Chunk] = false
	if f.Key == r.plan.Key {
		r.stage(f.Chunk, *h)
	} else {
		r.hash[f.Chunk], r.kept[f.Chunk] = *h, true
	}
	return 0
}

// sum is the hash of the chunk.
func (f *Frame) sum() *Hash {
	h := Hash{}
	if f.Codec == exact.FP32 {
		h = hashChunk(f.Codec, f.Data)
	} else {
		h = hashBytes(f.slice().wire)
	}
	return &h
}

// vector is memory for a result: a recycled one or new.
func (m *Machine) vector() []float32 {
	for i, v := range m.spare {
		if len(v) == m.plan.space && (m.last == nil || !same(m.last.v, v)) {
			m.spare = slices.Delete(m.spare, i, i+1)
			return v
		}
	}
	if v, ok := m.results.get(m.plan.space); ok {
		return v
	}
	return make([]float32, m.plan.space)
}

// Recycle gives back the vector of a Done that nobody reads any more. After the next Commit, which ends what may still be
// sent from it, a round may use its memory again. Two are kept.
func (m *Machine) Recycle(v []float32) {
	if m.res == nil || !same(m.res.v, v) {
		m.returned = append(m.returned, v)
		if m.results == nil {
			m.returned = m.returned[max(0, len(m.returned)-2):]
		}
	}
}

// same says whether two vectors are the same memory.
func same(a, b []float32) bool { return unsafe.SliceData(a) == unsafe.SliceData(b) }

// stage marks a chunk of v as filled.
func (r *result) stage(c int, h Hash) {
	r.hash[c] = h
	r.got[c] = true
	r.missing--
}

func (r *result) hashOf(c int) Hash {
	ch := r.plan.Chunks[c]
	return hashChunk(r.plan.Codec, r.v[ch.Lo:ch.Hi])
}

// agreed says whether the totals are known, so that results may travel.
func (r *result) agreed() bool { return r.totals != nil }

// skipped says whether nobody can step by these totals; the result is then zero at every member.
func (t *Totals) skipped() bool {
	return t.Weight <= 0 || t.NonFinite || !finite(t.Loss) || !finite(t.SumSq)
}

// Report makes the Have that DeferPartial held back, if there is news.
func (m *Machine) Report() []Effect {
	if m.plan == nil || m.closed {
		return nil
	}
	return m.report(nil, true)
}

// Deferred says whether Report has news.
func (m *Machine) Deferred() bool { return m.deferred && !m.closed }

// report makes a Have when this owner holds something the leader does not know of: all that the plan lists, or (partial)
// less than that, or the sum over the cut's set when the last Have was about another.
func (m *Machine) report(out []Effect, partial bool) []Effect {
	if m.plan.me < 0 || len(m.plan.owned) == 0 {
		return out
	}
	if !m.news && !(partial && m.deferred) {
		return out
	}
	m.news, m.deferred = false, false
	if m.lacking > 0 && m.lazy && !partial && m.cut == nil { // the ordinary case: told without a look at the pieces
		m.deferred = true
		return out
	}
	set := m.complete()
	if m.cut != nil {
		cut := m.plan.concerning(m.cut)
		if !covers(set, cut) {
			return out
		}
		set = cut
	} else if len(set) == 0 && len(m.plan.Pieces) > 0 && !m.told {
		return out
	}
	if m.told && sameMarks(m.have, set) {
		return out
	}
	m.told, m.have = true, set
	h := &Have{Key: m.plan.Key, Pieces: set}
	if h.SumSq, h.NonFinite = m.sumOwned(set); h.NonFinite {
		h.Spoilt = m.spoilt(set)
	}
	return append(out, Effect{Have: h})
}

// summable says whether all is here that this owner adds up for the cut.
func (m *Machine) summable() bool { return covers(m.complete(), m.plan.concerning(m.cut)) }

// complete lists, in plan order, the pieces of which this owner holds every chunk it owns and the piece has numbers in.
func (m *Machine) complete() []Mark {
	set := make([]Mark, 0, len(m.plan.Pieces))
	for _, id := range m.plan.Pieces {
		if p := m.pieces[id]; p != nil && p.absent == 0 && m.plan.concerns(id) {
			set = append(set, p.mark)
		}
	}
	return set
}

// slice is chunk c of a piece, if it is here.
func (m *Machine) slice(p *piece, c int) (s slice, here bool) {
	if p.own != nil {
		ch := m.plan.Chunks[c]
		return slice{data: p.own[ch.Lo:ch.Hi]}, true
	}
	s, here = p.chunks[c]
	return s, here
}

// arrived counts a slice of an owned chunk. The chunk is added up as soon as every listed piece is there, while others
// are still on their way.
func (m *Machine) arrived(c int) {
	m.absent[c]--
	m.lacking--
	if m.absent[c] == 0 {
		m.sumChunk(c, m.plan.Pieces)
	}
}

// sumOwned adds up every owned chunk over set. The squares of chunks are added in chunk order.
func (m *Machine) sumOwned(set []Mark) (sumSq float64, nonFinite bool) {
	for _, k := range set {
		nonFinite = nonFinite || nonFiniteLoss(k.Loss)
	}
	ids := idsOf(set)
	for _, c := range m.plan.owned {
		sq := m.sumChunk(c, ids).sq
		nonFinite = nonFinite || !finite(sq)
		if m.plan.hasResult(c) {
			sumSq += sq
		}
	}
	if !finite(sumSq) {
		return 0, true // records carry finite numbers only
	}
	return sumSq, nonFinite
}

// sumChunk adds chunk c over set in plan order, starting from the first piece's own numbers. All slices must be here.
func (m *Machine) sumChunk(c int, set []PieceID) *sum {
	s := m.sums[c]
	if s == nil {
		ch := m.plan.Chunks[c]
		v, ok := m.chunks.get(ch.Hi - ch.Lo)
		if !ok {
			v = make([]float32, ch.Hi-ch.Lo)
		}
		s = &sum{v: v}
		m.sums[c] = s
	}
	set = m.plan.addedTo(c, set)
	if s.filled && slices.Equal(s.set, set) {
		return s
	}
	s.filled, s.set = true, set
	srcs := make([]slice, len(set))
	for i, id := range set {
		srcs[i], _ = m.slice(m.pieces[id], c)
	}
	s.sq = m.add.sum(s.v, srcs)
	return s
}

// reduce stages the owned chunks of an agreed cut, sends them, and says when the whole result is here.
func (m *Machine) reduce(out []Effect) []Effect {
	if m.totals == nil || m.plan.me < 0 {
		return out
	}
	r := m.result()
	if m.plan.OwnersStep {
		out = m.handOut(out, r)
	} else if m.totals.skipped() {
		r.lent = r.lent || slices.Contains(r.claimed, true)
		m.writable(r)
		r.zero()
	} else if !r.reduced && (len(m.plan.owned) == 0 || m.summable()) {
		out = m.reduceOwned(out, r)
	}
	return r.finish(out)
}

func (m *Machine) reduceOwned(out []Effect, r *result) []Effect {
	r.reduced = true
	ids := idsOf(m.cut)
	standing := r.weight == m.totals.Weight && slices.Equal(r.made, m.cut)
	for _, c := range m.plan.owned {
		if standing && r.kept[c] && r.mine[c] { // made under an earlier attempt, of the same
			r.stage(c, r.hash[c])
		} else {
			m.makeChunk(r, c, ids)
		}
		out = m.sendResult(out, r, c, "")
	}
	r.made, r.weight = m.cut, m.totals.Weight
	return out
}

// makeChunk makes the result of chunk c of the pieces ids.
func (m *Machine) makeChunk(r *result, c int, ids []PieceID) {
	r.lent = r.lent || r.claimed[c] // an earlier owner is still sending it
	m.writable(r)
	ch := m.plan.Chunks[c]
	v, sum := r.v[ch.Lo:ch.Hi], m.sumChunk(c, ids).v
	if r.plan.Codec != exact.FP32 {
		r.encode(c, v, sum, m.totals.Weight, m.residual[c], m.outworn[c])
		r.stage(c, hashBytes(r.wire[c]))
	} else {
		exact.Divide(v, sum, m.totals.Weight)
		r.stage(c, r.hashOf(c))
	}
	r.mine[c] = true
}

// encode puts the mean, with what was dropped before, into the codec, and sets v to what everybody decodes. What the codec
// drops now is kept for the next round (error feedback; Seide et al. 2014, Karimireddy et al. 2019, arXiv:1901.09847).
// mem is used again if it fits. It works tile by tile, so that memory is passed over once.
func (r *result) encode(c int, v, sum []float32, weight int64, before, mem []float32) {
	codec, dropped := r.plan.Codec, mem
	if len(dropped) != len(v) {
		dropped = make([]float32, len(v))
	}
	if len(before) != len(v) {
		before = nil
	}
	wire := make([]byte, codec.Size(len(v)))
	for lo := 0; lo < len(v); lo += tile {
		hi := min(lo+tile, len(v))
		kept := dropped[lo:hi]
		exact.Divide(kept, sum[lo:hi], weight)
		if before != nil {
			exact.Add(kept, before[lo:hi])
		}
		part := wire[codec.Size(lo) : codec.Size(lo)+codec.Size(hi-lo)]
		codec.Encode(part, kept)
		codec.Decode(v[lo:hi], part)
		exact.Subtract(kept, v[lo:hi])
	}
	r.wire[c], r.residual[c] = wire, dropped
}

// zero fills what nobody will send.
func (r *result) zero() {
	clear(r.v)
	for c := range r.got {
		r.missing, r.got[c], r.mine[c] = 0, true, false
		r.hash[c] = r.hashOf(c)
	}
}

// finish makes Done once all chunks are here and the totals are known.
func (r *result) finish(out []Effect) []Effect {
	if r.missing > 0 || r.done || !r.agreed() {
		return out
	}
	r.done = true
	return append(out, Effect{Done: &Done{Key: r.plan.Key, Units: hashUnits(r.plan.Chunks, r.hash), V: r.v}})
}

func idsOf(set []Mark) []PieceID {
	ids := make([]PieceID, len(set))
	for i, k := range set {
		ids[i] = k.PieceID
	}
	return ids
}

// covers says whether have holds every mark of want. Both are in plan order.
func covers(have, want []Mark) bool {
	for _, h := range have {
		if len(want) > 0 && h == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

func sameMarks(a, b []Mark) bool { return len(a) == len(b) && covers(a, b) }
