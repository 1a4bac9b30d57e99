package autograd

import "github.com/seed-7b27c88a/shoal/kernels"

// Few are up to three weights, nil behind the last: an array, so that asking leaves no garbage.
type Few [3]*Param

// Joiner is a Weights that may give several weights as one: layers that share their input are then one product.
type Joiner interface {
	// Join is a handle to the matrices ps, one's rows behind the other's, or to vectors, one behind the other; nil where
	// they do not lie so. All of them learn or none. The same ps give the same handle.
	Join(ps Few) *Param
}

// Join is the weights' Join, nil where they have none.
func (t *Tape) Join(ps Few) *Param {
	if j, ok := t.W.(Joiner); ok {
		return j.Join(ps)
	}
	return nil
}

// joined are the handles that a Resident has given out.
type joined struct {
	whole map[Few]*Param // nil: they do not lie side by side
	parts map[*Param][]*Param
}

func newJoined() joined {
	return joined{whole: map[Few]*Param{}, parts: map[*Param][]*Param{}}
}

// Join implements Joiner. Handles stay as long as the Resident: a model has few.
func (r *Resident) Join(ps Few) *Param {
	p, ok := r.whole[ps]
	if !ok {
		n := 0
		for n < len(ps) && ps[n] != nil {
			n++
		}
		p = r.join(ps[:n])
		r.whole[ps] = p
	}
	return p
}

// join makes a handle, or nil.
func (r *Resident) join(ps []*Param) *Param {
	v, ok := sideBySide(r.values, ps)
	if !ok {
		return nil
	}
	p := &Param{Name: ps[0].Name + " and more", Unit: ps[0].Unit, Kind: ps[0].Kind, Rows: v.Rows, Cols: v.Cols, Off: ps[0].Off}
	g, learn := sideBySide(r.grads, ps)
	if !learn {
		for _, q := range ps {
			if _, learns := r.grads[q]; learns {
				return nil
			}
		}
	} else {
		r.grads[p] = g
	}
	if h, ok := sideBySide(r.halves, ps); ok {
		r.halves[p] = h
	}
	r.values[p], r.parts[p] = v, append([]*Param(nil), ps...)
	return p
}

// sideBySide is one tensor over those of ps, if they follow each other without gaps.
func sideBySide(of map[*Param]kernels.Tensor, ps []*Param) (all kernels.Tensor, ok bool) {
	for i, p := range ps {
		t, ok := of[p]
		switch {
		case !ok || !t.Packed() || t.Q != nil:
			return kernels.Tensor{}, false
		case i == 0:
			all = t
			continue
		case t.Buf != all.Buf || t.Off != all.Off+all.Len() || t.Type != all.Type || t.Frozen != all.Frozen ||
			p.vector() != ps[0].vector() || !p.vector() && t.Cols != all.Cols || p.Unit != ps[0].Unit:
			return kernels.Tensor{}, false
		case p.vector():
			all.Cols += t.Cols
			all.Ld = all.Cols
		default:
			all.Rows += t.Rows
		}
	}
	return all, true
}

// vector reports whether p is stored with one dimension.
func (p *Param) vector() bool { return len(p.Shape) == 1 }

// startAll is Start of several parts. Between two Blanks they are used either joined or alone.
func (r *Resident) startAll(parts []*Param) bool {
	first := r.blank[parts[0]]
	for _, p := range parts {
		if r.blank[p] != first {
			panic("autograd: " + p.Name + " is used both joined and alone")
		}
		r.blank[p] = false
	}
	return first
}
