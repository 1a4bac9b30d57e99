package cpu

import (
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// keep is the cache of packed frozen weights. Weights are used in turn, so that throwing out the oldest would throw out
// the next: where they do not all fit, it keeps none, and tries again when memory has been freed. The device's lock
// guards it.
type keep struct {
	budget, used int  // bytes
	over         bool // more was asked for than fits
	panels       map[keepKey]*kept
}

// keepKey names a weight and a form of it.
type keepKey struct {
	data           unsafe.Pointer
	off, n, k, ld  int
	stored         bool
	round          dtype.Type
	unit, step     int
	quant          unsafe.Pointer // of the scales
	quantized, f16 bool
}

// kept is a packed weight.
type kept struct {
	panels []float32
	bytes  []byte // whose memory it is
}

// What packed frozen weights take if nobody says otherwise: an eighth of memory, and at most what a model of some 15
// million weights needs. Packing is a twentieth of a product of 256 rows and less of one with more, so that a large model,
// which would double its memory, gains little.
const (
	keepShare = 8
	keepMem   = 128 << 20 // bytes
)

// keepBudget is what they may take. Where the process may have less than the machine every byte is for its tensors.
func (m *memory) keepBudget() int {
	if m.capped {
		return 0
	}
	return int(min(m.limit/keepShare, keepMem))
}

// get gives the packed panels of a side with sums of length k, packs them if there is room for them, or gives nil.
func (c *keep) get(p *pool, s *side, k int) []float32 {
	if c.budget == 0 || c.over || k == 0 {
		return nil
	}
	key := keyOf(s, k)
	if e := c.panels[key]; e != nil {
		return e.panels
	}
	n := parts(s.n, s.unit) * s.unit * parts(k, s.step)
	if 4*n > c.budget-c.used {
		c.drop(p.mem, nil)
		c.over = true
		return nil
	}
	bytes, err := p.mem.alloc(4 * n)
	if err != nil {
		return nil // the product goes on without
	}
	e := &kept{panels: unsafe.Slice((*float32)(unsafe.Pointer(&bytes[0])), n), bytes: bytes}
	from := *s
	p.each(parts(s.n, s.unit), func(w *worker, q int) {
		size := from.unit * parts(k, from.step)
		w.pack(e.panels[q*size:(q+1)*size], &from, q*from.unit, 0, k)
	})
	if c.panels == nil {
		c.panels = map[keepKey]*kept{}
	}
	c.panels[key], c.used = e, c.used+4*n
	return e.panels
}

func keyOf(s *side, k int) keepKey {
	key := keepKey{n: s.n, k: k, ld: s.o.ld, stored: s.stored, round: s.round, unit: s.unit, step: s.step}
	switch {
	case s.o.q != nil:
		key.data, key.off, key.quantized = unsafe.Pointer(unsafe.SliceData(s.o.q.bytes)), s.o.q.off, true
		key.quant = unsafe.Pointer(unsafe.SliceData(s.o.q.absmax))
	case s.o.half != nil:
		key.data, key.f16 = unsafe.Pointer(unsafe.SliceData(s.o.half)), true
	default:
		key.data = unsafe.Pointer(unsafe.SliceData(s.o.p))
	}
	return key
}

// drop gives back the panels made from memory within b, or all if b is nil.
func (c *keep) drop(m *memory, b []byte) {
	c.over = false
	lo := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for key, e := range c.panels {
		if at := uintptr(key.data); b == nil || at >= lo && at < lo+uintptr(len(b)) {
			m.free(e.bytes)
			c.used -= 4 * len(e.panels)
			delete(c.panels, key)
		}
	}
}
