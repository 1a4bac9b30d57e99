package autograd

import (
	"context"
	"maps"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// Weights is the one door to parameters: resident, gathered over the network, offloaded or quantized.
type Weights interface {
	Acquire(ctx context.Context, unit int) error // called before a unit's first use; may be called early to prefetch
	Value(p *Param) kernels.Tensor               // valid until Release
	Grad(p *Param) (g kernels.Tensor, ok bool)   // f32, added to; not ok: frozen
	Release(unit int, gradsDone bool)            // gradsDone: no more gradients for this unit in this pass
}

// Starter is a Weights whose gradients need not be cleared before a pass: the first that would add to one writes it.
type Starter interface {
	Start(p *Param) bool // reports whether p's gradient is still undefined; from now on it is not
}

// Learner is a Weights that can say whether p gets a gradient without taking memory for it.
type Learner interface {
	Learns(p *Param) bool
}

// Resident keeps every weight on the device all the time: trained ones in one flat vector in the order of the job's
// index space, frozen ones each in a tensor of its own.
type Resident struct {
	values map[*Param]kernels.Tensor
	grads  map[*Param]kernels.Tensor
	blank  map[*Param]bool           // gradients that nobody has written since Blank
	halves map[*Param]kernels.Tensor // copies for products, in a narrower type than the values
	places map[*Param]int            // in the flat vectors, of those that lie elsewhere than at Off
	joined                           // weights that lie side by side
}

// NewResident makes a door without weights behind it.
func NewResident() *Resident {
	return &Resident{values: map[*Param]kernels.Tensor{}, grads: map[*Param]kernels.Tensor{}, blank: map[*Param]bool{},
		halves: map[*Param]kernels.Tensor{}, places: map[*Param]int{}, joined: newJoined()}
}

// Place makes at, instead of p.Off, p's first element in the flat vectors: those of a stage hold a part of the job's
// index space. It comes before Train and Copy.
func (r *Resident) Place(p *Param, at int) { r.places[p] = at }

// place is p's first element in the flat vectors.
func (r *Resident) place(p *Param) int {
	if at, ok := r.places[p]; ok {
		return at
	}
	return p.Off
}

// Freeze puts p's value there without a gradient. Once a product has used v, nobody writes to it.
func (r *Resident) Freeze(p *Param, v kernels.Tensor) {
	v.Frozen = true
	r.values[p] = v
}

// Train lets p be a window of the flat vectors w and g, each (1, elements of the job), at p.Off.
func (r *Resident) Train(p *Param, w, g kernels.Tensor) {
	r.values[p] = r.window(w, p)
	r.grads[p] = r.window(g, p)
}

// Copy lets products read p from its window of half, a copy of the flat vector w in a narrower type.
func (r *Resident) Copy(p *Param, half kernels.Tensor) { r.halves[p] = r.window(half, p) }

// Factor is p's value as products read it.
func (r *Resident) Factor(p *Param) kernels.Tensor {
	if h, ok := r.halves[p]; ok {
		return h
	}
	return r.Value(p)
}

// With is r with the flat vector w, without gradients, behind the weights of ps.
func (r *Resident) With(ps []*Param, w kernels.Tensor) *Resident {
	c := &Resident{values: maps.Clone(r.values), joined: newJoined()}
	for _, p := range ps {
		c.values[p] = r.window(w, p)
	}
	return c
}

func (r *Resident) window(flat kernels.Tensor, p *Param) kernels.Tensor {
	flat.Off += r.place(p)
	flat.Rows, flat.Cols, flat.Ld = p.Rows, p.Cols, p.Cols
	return flat
}

func (r *Resident) Acquire(ctx context.Context, _ int) error { return ctx.Err() }

func (r *Resident) Value(p *Param) kernels.Tensor {
	v, ok := r.values[p]
	if !ok {
		panic("autograd: no weight behind " + p.Name)
	}
	return v
}

func (r *Resident) Grad(p *Param) (kernels.Tensor, bool) {
	g, ok := r.grads[p]
	return g, ok
}

func (r *Resident) Release(int, bool) {}

// Blank makes all gradients undefined.
func (r *Resident) Blank() {
	for p := range r.grads {
		r.blank[p] = true
	}
}

// Start implements Starter.
func (r *Resident) Start(p *Param) bool {
	if parts := r.parts[p]; parts != nil {
		return r.startAll(parts)
	}
	was := r.blank[p]
	if was {
		r.blank[p] = false
	}
	return was
}
