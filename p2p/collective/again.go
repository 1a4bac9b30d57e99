package collective

// under takes what is staged over to a further attempt: it is kept until the owner of the plan in force says that it
// stands. Where owners step, their worker may still read from the result, so nothing is kept.
func (r *result) under(v *view) *result {
	if r == nil || v.me < 0 || v.OwnersStep {
		return nil
	}
	for c := range r.got {
		r.kept[c], r.got[c] = r.kept[c] || r.got[c], false
		if v.Owners[c][0] != v.me {
			r.mine[c] = false
			delete(r.residual, c)
		}
	}
	r.lent = r.lent || r.done
	r.plan, r.totals, r.missing = v, nil, len(v.Chunks)
	r.again, r.reduced, r.done = true, false, false
	return r
}

// writable sees that nobody else reads r.v, and that nothing on its way is written there: who got a Done may have its
// numbers, whatever further attempts bring.
func (m *Machine) writable(r *result) {
	if r.lent {
		v := m.vector()
		copy(v, r.v)
		r.v, r.lent = v, false
		clear(r.claimed)
	}
}

// confirm answers an owner that asks by hash whether chunk c is here.
func (r *result) confirm(c int, h Hash) Refusal {
	switch {
	case r.got[c]:
	case r.kept[c] && r.hash[c] == h:
		r.kept[c] = false
		r.stage(c, h)
	default:
		return RefusedAbsent
	}
	return 0
}

// keepsOwn says whether every chunk that this member owned under v is still its own under the plan in force.
func (m *Machine) keepsOwn(v *view) bool {
	if m.res == nil || v == nil {
		return false
	}
	for _, c := range v.owned {
		if m.plan.Owners[c][0] != m.plan.me {
			return false
		}
	}
	return true
}
