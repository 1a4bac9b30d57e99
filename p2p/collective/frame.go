package collective

import "github.com/seed-7b27c88a/shoal/p2p/record"

// Frame takes a chunk from a peer. The first of its effects, or one of a later event, is the frame's Receipt.
func (m *Machine) Frame(from record.PeerID, f *Frame) []Effect {
	out := m.advance(m.take(nil, from, f))
	if m.last != nil {
		out = m.last.finish(out)
	}
	return out
}

// take puts a frame where it belongs. Nothing is summed here.
func (m *Machine) take(out []Effect, from record.PeerID, f *Frame) []Effect {
	v, why := m.planOf(f)
	switch {
	case why == RefusedUnknown:
		if m.box.put(from, f) {
			return out // its receipt comes when the plan does
		}
	case why != 0:
	case f.Kind == FrameContribution:
		why = m.takeContribution(from, f)
	case f.Kind == FrameResult:
		why = m.takeResult(v, from, f)
	default:
		why = RefusedMalformed
	}
	return append(out, receipt(from, f, why))
}

// planOf finds the plan a frame speaks of: the one in force, an earlier attempt of its round for a contribution, or the
// last committed one for a result.
func (m *Machine) planOf(f *Frame) (*view, Refusal) {
	k := f.Key
	switch {
	case m.last != nil && m.last.plan.Key == k:
		if f.Kind == FrameResult {
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
	if v := m.plans[k.Plan.KeyString()]; v != nil && v.Key == k && f.Kind == FrameContribution {
		return v, 0
	}
	if k.before(m.plan.Key) {
		return nil, RefusedStale
	}
	return nil, RefusedUnknown
}

// takeContribution keeps a chunk of somebody's piece, if this member is to sum it or is to hold it for its owner.
func (m *Machine) takeContribution(from record.PeerID, f *Frame) Refusal {
	v := m.plan
	if from != f.Mark.Member || from == m.self.ID || !wellFormed(f.Mark) || f.Chunk < 0 || f.Chunk >= len(v.Chunks) ||
		len(f.Data) != v.Chunks[f.Chunk].Hi-v.Chunks[f.Chunk].Lo {
		return RefusedMalformed
	}
	if _, listed := v.order[f.Mark.PieceID]; !listed || m.closed || !v.keeps(v.me, f.Chunk, from) {
		return RefusedUnlisted
	}
	p := m.pieces[f.Mark.PieceID]
	if p == nil {
		p = &piece{mark: f.Mark, chunks: map[int][]float32{}, absent: len(v.owned)}
		m.pieces[f.Mark.PieceID] = p
	}
	if p.mark != f.Mark {
		return RefusedMalformed // a piece has one mark; the first that came stands
	}
	if p.chunks[f.Chunk] != nil {
		return 0
	}
	p.chunks[f.Chunk] = f.Data
	if v.Owners[f.Chunk][0] == v.me {
		p.absent--
		m.news = m.news || p.absent == 0
		m.arrived(f.Chunk)
	}
	return 0
}

// keeps says whether member me keeps from's slice of chunk c: as its owner, or as first successor of the owner from.
func (v *view) keeps(me, c int, from record.PeerID) bool {
	os := v.Owners[c]
	if me < 0 {
		return false
	}
	return os[0] == me || len(os) > 1 && os[1] == me && v.Members[os[0]].ID == from
}

// takeResult stages a chunk of a result.
func (m *Machine) takeResult(v *view, from record.PeerID, f *Frame) Refusal {
	if v.me < 0 || f.Chunk < 0 || f.Chunk >= len(v.Chunks) || len(f.Data) != v.Chunks[f.Chunk].Hi-v.Chunks[f.Chunk].Lo ||
		v.Owners[f.Chunk][0] == v.me || v.Members[v.Owners[f.Chunk][0]].ID != from {
		return RefusedMalformed
	}
	r := m.last
	if r == nil || r.plan != v {
		r = m.result()
	}
	r.put(f.Chunk, f.Data)
	return 0
}
