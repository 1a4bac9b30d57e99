package kernels

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// align is the distance in bytes that tensors start at: a cache line, and the widest vector register.
const align = 64

// Arena cuts device memory into tensors, one after the other, and takes all of them back at once. After a Reset the
// same sequence of shapes gets the same places, so a step that repeats allocates nothing. It grows by slabs and
// keeps them. An Arena belongs to one goroutine.
//
// Running out of memory sticks: Err reports it, later tensors are dead, and a Stream that is given a dead tensor
// takes over the error and drops the command.
type Arena struct {
	dev   Device
	slab  int // bytes of a regular slab
	slabs []*Buffer
	cur   int     // index of the slab in use
	used  int     // bytes used of it
	dead  *Buffer // set once memory ran out
	spare *Spare  // nil: it shares with nobody
}

// NewArena makes an arena that takes slabs of at least the given number of bytes from dev; nothing is taken yet.
func NewArena(dev Device, slabBytes int) *Arena {
	return &Arena{dev: dev, slab: max(slabBytes, align)}
}

// Tensor is a new packed tensor. Its contents are undefined: zero in fresh memory, old values after a Reset.
func (a *Arena) Tensor(t dtype.Type, rows, cols int) Tensor {
	n, err := bytesOf(t, rows, cols)
	if err != nil {
		a.fail(err)
		return Tensor{Buf: a.dead, Rows: rows, Cols: cols, Ld: cols, Type: t}
	}
	buf, off := a.take(n)
	return Tensor{Buf: buf, Off: off * 8 / t.Bits(), Rows: rows, Cols: cols, Ld: cols, Type: t}
}

// F32 is a new packed tensor of type F32.
func (a *Arena) F32(rows, cols int) Tensor { return a.Tensor(dtype.F32, rows, cols) }

// I32 is a new packed tensor of type I32.
func (a *Arena) I32(rows, cols int) Tensor { return a.Tensor(dtype.I32, rows, cols) }

// Reset takes all tensors back. The slabs stay with the arena.
func (a *Arena) Reset() { a.cur, a.used = 0, 0 }

// Free gives the slabs back to the device. The arena may be used again and takes new ones.
func (a *Arena) Free() {
	Free(a.dev, a.slabs...)
	*a = Arena{dev: a.dev, slab: a.slab, spare: a.spare}
}

// Mark is a place in an arena that Release goes back to.
type Mark struct{ cur, used int }

// Mark remembers how far the arena is used.
func (a *Arena) Mark() Mark { return Mark{a.cur, a.used} }

// Release takes back the tensors made since m.
func (a *Arena) Release(m Mark) { a.cur, a.used = m.cur, m.used }

// Bytes is the memory that the arena holds.
func (a *Arena) Bytes() int {
	n := 0
	for _, s := range a.slabs {
		n += s.Size
	}
	return n
}

// Err is the reason why the arena could not give memory, or nil.
func (a *Arena) Err() error {
	if a.dead != nil {
		return a.dead.err
	}
	return nil
}

// take gives n bytes of a slab, and where in it they start.
func (a *Arena) take(n int) (*Buffer, int) {
	n = (n + align - 1) &^ (align - 1)
	for a.cur < len(a.slabs) || a.grow(n) {
		if s := a.slabs[a.cur]; s.Size-a.used >= n {
			a.used += n
			return s, a.used - n
		}
		a.cur, a.used = a.cur+1, 0
	}
	return a.dead, 0
}

// grow appends a slab of at least n bytes unless memory has run out.
func (a *Arena) grow(n int) bool {
	if a.dead != nil {
		return false
	}
	if b := a.spare.take(max(n, a.slab)); b != nil {
		a.slabs = append(a.slabs, b)
		return true
	}
	b, err := a.dev.Alloc(max(n, a.slab))
	if err != nil {
		a.fail(fmt.Errorf("arena of %d bytes needs %d more: %w", a.Bytes(), n, err))
		return false
	}
	a.slabs = append(a.slabs, b)
	return true
}

func (a *Arena) fail(err error) {
	if a.dead == nil {
		a.dead = &Buffer{err: err}
	}
}

// Alloc gives a packed tensor its own zeroed buffer.
func Alloc(dev Device, t dtype.Type, rows, cols int) (Tensor, error) {
	n, err := bytesOf(t, rows, cols)
	if err != nil {
		return Tensor{}, err
	}
	b, err := dev.Alloc(n)
	if err != nil {
		return Tensor{}, fmt.Errorf("tensor (%d,%d) %v: %w", rows, cols, t, err)
	}
	return Tensor{Buf: b, Rows: rows, Cols: cols, Ld: cols, Type: t}, nil
}

// maxBytes bounds a tensor far above any memory and far below where sizes overflow.
const maxBytes = 1 << 50

// bytesOf is the size of a packed tensor. Sizes come from model files: one that is absurd is an error.
func bytesOf(t dtype.Type, rows, cols int) (int, error) {
	if rows < 0 || cols < 0 || !t.Valid() {
		panic(fmt.Sprintf("kernels: tensor (%d,%d) %v", rows, cols, t))
	}
	if cols > 0 && rows > maxBytes/8/cols {
		return 0, fmt.Errorf("tensor (%d,%d) %v is larger than any memory", rows, cols, t)
	}
	return t.Bytes(rows * cols), nil
}
