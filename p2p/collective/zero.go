package collective

import (
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// Step asks the caller for the result of this member's chunks: owners step (Plan.OwnersStep), so what the members share
// is not the mean but what the optimizer makes of it. Machine.Stepped answers. It comes once under every plan whose
// totals are released: without chunks where this member owns none, or where nobody can step.
type Step struct {
	Key
	Totals Totals
	Means  []Mean // of the owned chunks, ascending
}

// Mean is the reduced gradient of a chunk. V is read-only, and stays as it is until Stepped.
type Mean struct {
	Chunk int
	V     []float32
}

// hasResult says whether members share anything of chunk c.
func (p *Plan) hasResult(c int) bool { return !p.OwnersStep || p.Weights == 0 || c < p.Weights }

// passOver marks the chunks that have no result as there, on all members alike.
func (r *result) passOver() {
	for c := range r.got {
		if !r.plan.hasResult(c) {
			ch := r.plan.Chunks[c]
			clear(r.v[ch.Lo:ch.Hi])
			r.stage(c, Hash{})
		}
	}
}

// handOut makes the means of the owned chunks and asks for what the optimizer makes of them.
func (m *Machine) handOut(out []Effect, r *result) []Effect {
	if r.asked {
		return out
	}
	s := &Step{Key: m.plan.Key, Totals: *m.totals}
	switch {
	case m.totals.skipped():
		r.zero()
	case len(m.plan.owned) == 0:
	case !m.summable():
		return out
	default:
		s.Means = m.means(r)
	}
	r.asked = true
	return append(out, Effect{Step: s})
}

// means are written to the result's own place, which is theirs until Stepped.
func (m *Machine) means(r *result) (means []Mean) {
	ids := idsOf(m.cut)
	for _, c := range m.plan.owned {
		ch := m.plan.Chunks[c]
		v := r.v[ch.Lo:ch.Hi:ch.Hi]
		if !m.plan.hasResult(c) {
			v = make([]float32, ch.Hi-ch.Lo) // its place is zero for everybody
		}
		exact.Divide(v, m.sumChunk(c, ids).v, m.totals.Weight)
		means = append(means, Mean{c, v})
	}
	return means
}

// Stepped answers a Step: the results of all owned chunks that have one. In codec fp32 they are the chunks' new values,
// in another the changes, which count as what they are after their way through the codec. An answer to a Step of an
// earlier plan is dropped.
func (m *Machine) Stepped(k Key, own []Mean) []Effect {
	r := m.res
	if m.plan == nil || m.plan.Key != k || m.closed || r == nil || !r.asked || r.reduced || r.done || !m.answers(own) {
		return nil
	}
	r.reduced = true
	var out []Effect
	for _, x := range own {
		ch := m.plan.Chunks[x.Chunk]
		v := r.v[ch.Lo:ch.Hi]
		if r.plan.Codec == exact.FP32 {
			copy(v, x.V)
			r.stage(x.Chunk, r.hashOf(x.Chunk))
		} else {
			r.wire[x.Chunk] = coded(r.plan.Codec, x.V)
			r.plan.Codec.Decode(v, r.wire[x.Chunk])
			r.stage(x.Chunk, hashBytes(r.wire[x.Chunk]))
		}
		out = m.sendResult(out, r, x.Chunk, "")
	}
	return r.finish(out)
}

// answers says whether own is what the plan's owner has to bring.
func (m *Machine) answers(own []Mean) bool {
	for _, c := range m.plan.owned {
		if !m.plan.hasResult(c) {
			continue
		}
		ch := m.plan.Chunks[c]
		if len(own) == 0 || own[0].Chunk != c || len(own[0].V) != ch.Hi-ch.Lo {
			return false
		}
		own = own[1:]
	}
	return len(own) == 0
}

// Stepped hands in the results of this member's chunks, in answer to Events.Step. own is the caller's again on return.
func (g *Group) Stepped(k Key, own []Mean) {
	g.step(func() []Effect { return g.m.Stepped(k, own) })
}
