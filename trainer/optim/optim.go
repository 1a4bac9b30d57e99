// Package optim turns reduced gradients into new weights. A Rule is an update rule as a job's spec describes it; opened
// over a job's index space it is an Optimizer, which owns the device memory of its state and steps any range that its
// grain allows. The arithmetic is the exact operations of the kernels, so every member that steps gets the same bits.
// What changes per step is computed here in float64, rounded once, and read by the kernel from device memory.
//
// State. What a rule remembers travels as at most two vectors of the index space's length, M and V, whatever form it has
// on the device; what was read and written back gives the same bits afterwards.
//
// Concurrency. An optimizer belongs to the goroutine of its stream.
package optim

import (
	"fmt"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Rule is an update rule.
type Rule interface {
	// Grain is the number of elements of a (rows, cols) tensor at whose multiples it may be cut, so that the owner of
	// each part steps it alone (layout.Param): 1, or more where elements share state.
	Grain(rows, cols int) int
	// Uses says which of the vectors of state carry something.
	Uses() (m, v bool)
	// Open takes memory for the state of params, which lie in their order in an index space of elems elements.
	Open(s *kernels.Stream, params []*autograd.Param, elems int) (Optimizer, error)
}

// Slot is a vector of state.
type Slot int

// The vectors of state.
const (
	M Slot = iota
	V
)

// Optimizer is a rule with its state. Errors of the device stick to the stream.
type Optimizer interface {
	// Step updates [lo, hi) of w with the same range of the gradient g; both are (1, elements) of the index space.
	Step(n Now, w, g kernels.Tensor, lo, hi int)
	// Read copies a vector of state from element lo on. An unused one is zero.
	Read(slot Slot, lo int, dst []float32) error
	// Write replaces a vector of state that is used.
	Write(slot Slot, src []float32)
	// CopyFrom replaces the state by that of an optimizer of the same rule over the same params.
	CopyFrom(o Optimizer)
	// Close gives the memory back; nothing may be under way.
	Close()
}

// Now is what changes from step to step.
type Now struct {
	Step uint64 // from 1
	LR   float64
	Clip float64 // factor of the gradient
}

// Clip is the factor that brings a gradient of the given norm down to limit; 0 is no limit. The 1e-6 is PyTorch's.
func Clip(norm, limit float64) float64 {
	if limit == 0 {
		return 1
	}
	return min(1, limit/(norm+1e-6))
}

// Decay says how much weights decay, and which do.
type Decay struct {
	WeightDecay float64
	NoDecay     []string // kinds ("norm", "bias", "embedding") or parts of names whose weights do not decay
}

// of is the decay of one class of weights.
func (d Decay) of(decays bool) float64 {
	if decays {
		return d.WeightDecay
	}
	return 0
}

// Segment is a run [Lo, Hi) of the index space that is stepped with the same numbers.
type Segment struct {
	Lo, Hi int
	Decay  bool
}

// Segments joins neighbours of the same decay class. params are in the order of the index space.
func (d Decay) Segments(params []*autograd.Param) []Segment {
	var segs []Segment
	for _, p := range params {
		decay := d.decays(p)
		if n := len(segs); n > 0 && segs[n-1].Hi == p.Off && segs[n-1].Decay == decay {
			segs[n-1].Hi += p.Len()
		} else {
			segs = append(segs, Segment{p.Off, p.Off + p.Len(), decay})
		}
	}
	return segs
}

// decays matches p against NoDecay: by what it is, or by a part of its name. GPT-2 calls its norms ln_1, so the kind
// has to decide there.
func (d Decay) decays(p *autograd.Param) bool {
	for _, word := range d.NoDecay {
		if word == p.Kind.String() || word == "bias" && strings.HasSuffix(p.Name, ".bias") ||
			word != "" && strings.Contains(strings.ToLower(p.Name), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// numbers are a step's numbers for both decay classes, on the device.
type numbers struct{ plain, decayed kernels.Tensor }

// put uploads what hyper makes for both classes.
func (h numbers) put(s *kernels.Stream, hyper func(decays bool) []float64) numbers {
	up := func(t kernels.Tensor, v []float64) kernels.Tensor {
		row := make([]float32, len(v))
		for i, x := range v {
			row[i] = float32(x)
		}
		t = t.SliceCols(0, len(v))
		s.Upload(t, row)
		return t
	}
	return numbers{up(h.plain, hyper(false)), up(h.decayed, hyper(true))}
}

func (h numbers) of(decays bool) kernels.Tensor {
	if decays {
		return h.decayed
	}
	return h.plain
}

// memory is device memory that is given back together.
type memory struct {
	s    *kernels.Stream
	held []*kernels.Buffer
}

func (m *memory) take(t dtype.Type, n int) (kernels.Tensor, error) {
	x, err := kernels.Alloc(m.s.Device(), t, 1, n)
	if err != nil {
		return x, fmt.Errorf("optimizer state: %w", err)
	}
	m.held = append(m.held, x.Buf)
	return x, nil
}

// numbers takes memory for the numbers of a step.
func (m *memory) numbers() (n numbers, err error) {
	const longest = 12
	if n.plain, err = m.take(dtype.F32, longest); err == nil {
		n.decayed, err = m.take(dtype.F32, longest)
	}
	return n, err
}

// Close gives the memory back.
func (m *memory) Close() {
	kernels.Free(m.s.Device(), m.held...)
	m.held = nil
}
