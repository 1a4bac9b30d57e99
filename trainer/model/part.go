package model

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Part is a run [Lo, Hi) of the units that a pass goes through one after the other: 0 the embedding, 1…L the blocks, L+1
// the head. What several parts use of the rest (a shared token table, what an adapter makes once for all layers) belongs
// to each of them.
type Part struct{ Lo, Hi int }

// Row is how many units a pass goes through one after the other.
func (m *Model) Row() int { return m.headUnit() + 1 }

// First reports whether the part begins with tokens.
func (p Part) First() bool { return p.Lo == 0 }

// Last reports whether the part ends with the head.
func (m *Model) Last(p Part) bool { return p.Hi == m.Row() }

// ShareOverlay makes something once in a pass for all layers, with weights of its own that every part has to hold.
type ShareOverlay interface {
	Shared() []*autograd.Param
	Share(c *Ctx) // leaves what it makes in c.Shared
}

// Holds reports whether a part needs p, a weight of the model or of the overlay o.
func (m *Model) Holds(part Part, o Overlay, p *autograd.Param) bool {
	if s, ok := o.(ShareOverlay); ok && slices.Contains(s.Shared(), p) {
		return true
	}
	if m.tied != 0 && p.Unit == m.tied {
		return part.First() || m.Last(part)
	}
	return part.Lo <= p.Unit && p.Unit < part.Hi
}

// Run runs a part on the residual stream x (N, C), which is empty for the first one. The last one's result is that of
// Hidden. It means nothing when the tape has an error.
func (m *Model) Run(c *Ctx, x autograd.Var, part Part) autograd.Var {
	if s, ok := c.Over.(ShareOverlay); ok && len(s.Shared()) > 0 {
		c.Unit(autograd.Var{}, []int{0}, func(autograd.Var) autograd.Var {
			s.Share(c)
			return c.Shared
		})
	}
	for unit := part.Lo; unit < part.Hi; unit++ {
		x = m.unit(c, x, unit)
	}
	return x
}

// unit runs one unit.
func (m *Model) unit(c *Ctx, x autograd.Var, unit int) autograd.Var {
	switch {
	case unit == 0:
		return c.Unit(x, m.with(0), func(autograd.Var) autograd.Var { return m.embed(c) })
	case unit == m.headUnit():
		return c.Unit(x, []int{unit}, func(x autograd.Var) autograd.Var { return m.final(c, x) })
	}
	f := func(x autograd.Var) autograd.Var { return m.Blocks[unit-1].Forward(c, x) }
	if c.Checkpoint {
		return c.Tape.Checkpoint(x, []int{unit}, f)
	}
	return c.Unit(x, []int{unit}, f)
}
