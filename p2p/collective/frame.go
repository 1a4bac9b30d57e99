package collective

import (
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Frame takes a chunk from a peer. The first of its effects, or one of a later event, is the frame's Receipt.
func (m *Machine) Frame(from record.PeerID, f *Frame) []Effect {
	out := m.advance(m.take(nil, from, f))
	if m.last != nil {
		out = m.last.finish(out)
	}
	return out
}

// expect judges a frame by all but its data, of which there are n elements, so that nothing unwanted need be read. held:
// they are here already. into: a chunk of a result may be read straight to its place, where nobody else will write until
// Frame or abandon.
func (m *Machine) expect(from record.PeerID, f *Frame, n int) (into []float32, held bool, why Refusal) {
	v, held, why := m.judge(from, f, n)
	if why == RefusedUnknown && m.box.room(from, n) {
		return nil, false, 0
	}
	if why != 0 || held || f.Kind != FrameResult {
		return nil, held, why
	}
	r := m.resultOf(v)
	if r.claimed[f.Chunk] {
		return nil, false, RefusedUnknown // another copy is on its way in: come back if that fails
	}
	m.writable(r)
	r.claimed[f.Chunk], r.kept[f.Chunk] = true, false
	ch := v.Chunks[f.Chunk]
	return r.v[ch.Lo:ch.Hi:ch.Hi], false, 0
}

// abandon takes back what expect promised for a frame whose data did not come.
func (m *Machine) abandon(f *Frame, into []float32) {
	for _, r := range []*result{m.res, m.last} {
		if r != nil && same(r.v[r.plan.Chunks[f.Chunk].Lo:], into) {
			r.claimed[f.Chunk] = false
		}
	}
}

// take puts a frame where it belongs, and adds up its chunk if it was the last one missing.
func (m *Machine) take(out []Effect, from record.PeerID, f *Frame) []Effect {
	v, held, why := m.judge(from, f, f.elements())
	switch {
	case why == RefusedUnknown && m.box.put(from, f):
		return out // its receipt comes when the plan does
	case why != 0 || held:
	case f.Kind == FrameContribution:
		m.keep(f)
	case f.Kind == FrameResult:
		why = m.put(m.resultOf(v), f)
	case f.Kind == FrameHeld:
		why = m.resultOf(v).confirm(f.Chunk, *f.Hash)
	}
	return append(out, receipt(from, f, why))
}

// judge finds the plan that a frame of n elements speaks of and says whether it is wanted.
func (m *Machine) judge(from record.PeerID, f *Frame, n int) (v *view, held bool, why Refusal) {
	v, why = m.planOf(f)
	switch {
	case why != 0:
	case f.Codec != v.Codec || f.Chunk < 0 || f.Chunk >= len(v.Chunks) || from == m.self.ID:
		why = RefusedMalformed
	case f.Kind == FrameHeld && f.Hash != nil && n == 0:
		held, why = m.judgeResult(v, from, f)
	case n != v.Chunks[f.Chunk].Hi-v.Chunks[f.Chunk].Lo:
		why = RefusedMalformed
	case f.Kind == FrameContribution:
		held, why = m.judgeContribution(from, f)
	case f.Kind == FrameResult:
		held, why = m.judgeResult(v, from, f)
	default:
		why = RefusedMalformed
	}
	return v, held, why
}

// planOf finds the plan a frame speaks of: the one in force, an earlier attempt of its round for a contribution or a
// result on its way, or the last committed one for a result.
func (m *Machine) planOf(f *Frame) (*view, Refusal) {
	k := f.Key
	switch {
	case m.last != nil && m.last.plan.Key == k:
		if f.Kind != FrameContribution {
			return m.last.plan, 0
		}
		return nil, RefusedStale
	case m.plan == nil:
		return nil, RefusedUnknown
	case m.plan.Key == k:
		return m.plan, 0
	case m.plan.Job != k.Job:
		return nil, RefusedMalformed
	}
	if v := m.plans[k.Plan.KeyString()]; v != nil && v.Key == k && (f.Kind == FrameContribution || f.Kind == FrameResult && m.res != nil && m.res.again) {
		return v, 0
	}
	if k.before(m.plan.Key) {
		return nil, RefusedStale
	}
	return nil, RefusedUnknown
}

// judgeContribution: a chunk of somebody's piece is wanted if this member is to sum it or is to hold it for its owner.
func (m *Machine) judgeContribution(from record.PeerID, f *Frame) (held bool, why Refusal) {
	v := m.plan
	if from != f.Mark.Member || !wellFormed(f.Mark) {
		return false, RefusedMalformed
	}
	if _, listed := v.order[f.Mark.PieceID]; !listed || m.closed || !v.keeps(v.me, f.Chunk, from) || !v.adds(f.Mark.PieceID, f.Chunk) {
		return false, RefusedUnlisted
	}
	p := m.pieces[f.Mark.PieceID]
	if p == nil {
		return false, 0
	}
	if p.mark != f.Mark {
		return false, RefusedMalformed // a piece has one mark; the first that came stands
	}
	_, held = p.chunks[f.Chunk]
	return held, 0
}

// keeps says whether member me keeps from's slice of chunk c: as its owner, or as first successor of the owner from.
func (v *view) keeps(me, c int, from record.PeerID) bool {
	os := v.Owners[c]
	if me < 0 {
		return false
	}
	return os[0] == me || len(os) > 1 && os[1] == me && v.Members[os[0]].ID == from
}

// keep holds a wanted chunk of somebody's piece.
func (m *Machine) keep(f *Frame) {
	v := m.plan
	p := m.pieces[f.Mark.PieceID]
	if p == nil {
		p = &piece{mark: f.Mark, chunks: map[int]slice{}, absent: v.expected(f.Mark.PieceID)}
		m.pieces[f.Mark.PieceID] = p
	}
	p.chunks[f.Chunk] = f.slice()
	if v.Owners[f.Chunk][0] == v.me {
		p.absent--
		m.news = m.news || p.absent == 0
		m.arrived(f.Chunk)
	}
}

// slice is the chunk as a piece holds it: in a codec without its numbers.
func (f *Frame) slice() slice {
	switch {
	case f.Codec == exact.FP32:
		return slice{data: f.Data}
	case f.Wire == nil:
		return slice{wire: coded(f.Codec, f.Data)}
	}
	return slice{data: f.Data, wire: f.Wire}
}

// judgeResult: a chunk of a result is wanted from its owner.
func (m *Machine) judgeResult(v *view, from record.PeerID, f *Frame) (held bool, why Refusal) {
	owner := v.Owners[f.Chunk][0]
	if v.me < 0 || owner == v.me || v.Members[owner].ID != from || !v.hasResult(f.Chunk) {
		return false, RefusedMalformed
	}
	r := m.res
	if m.last != nil && m.last.plan == v {
		r = m.last
	}
	return r != nil && (r.got[f.Chunk] || v != r.plan && r.kept[f.Chunk]), 0
}

// resultOf is the result that is being put together under v.
func (m *Machine) resultOf(v *view) *result {
	if m.last != nil && m.last.plan == v {
		return m.last
	}
	return m.result()
}
