package collective

import "github.com/seed-7b27c88a/shoal/p2p/collective/exact"

// spoilt lists the pieces of a set that are themselves not finite in this owner's chunks, or have such a loss. A sum may
// overflow without any.
func (m *Machine) spoilt(set []Mark) (out []PieceID) {
	for _, k := range set {
		bad := nonFiniteLoss(k.Loss)
		for _, c := range m.plan.owned {
			if !bad && m.plan.adds(k.PieceID, c) {
				s, _ := m.slice(m.pieces[k.PieceID], c)
				bad = !m.add.finite(s, m.plan.Chunks[c].Hi-m.plan.Chunks[c].Lo)
			}
		}
		if bad {
			out = append(out, k.PieceID)
		}
	}
	return out
}

// finite tells whether all of the n elements of s are, and so their squares.
func (a *adder) finite(s slice, n int) bool {
	v := make([]float32, min(n, tile))
	for lo := 0; lo < n; lo += tile {
		part := v[:min(tile, n-lo)]
		if a.codec == exact.FP32 {
			part = s.data[lo : lo+len(part)]
		} else {
			a.add(part, s, lo, true)
		}
		for _, x := range part {
			if !finite(float64(x)) {
				return false
			}
		}
	}
	return true
}
