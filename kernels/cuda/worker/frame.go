package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// A frame is its kind, the bytes of its body, and the body. Numbers are little-endian.
const (
	kindInfo  byte = 1 + iota // → name, model, kernel, workers, memory
	kindAlloc                 // number, bytes → nothing
	kindFree                  // number; no answer
	kindRun                   // commands; no answer
	kindWrite                 // tensor, contents; no answer
	kindRead                  // tensor → contents
	kindSync                  // → nothing
	kindCache                 // bytes; no answer
	kindLimit                 // memory, watts, degrees → nothing
	kindOK                    // answer: what the call asked for
	kindError                 // answer: text
	kindFault                 // answer: text; the child ends
)

const headerBytes = 9

// maxFrame is far above what a tensor has and far below what overflows: a frame that is larger is broken.
const maxFrame = 1 << 38

var errFrame = errors.New("the worker's frame is broken")

// encoder appends to a frame.
type encoder struct{ b []byte }

func (e *encoder) start(kind byte) { e.b = append(e.b[:0], kind, 0, 0, 0, 0, 0, 0, 0, 0) }
func (e *encoder) u8(v byte)       { e.b = append(e.b, v) }
func (e *encoder) u32(v uint32)    { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)    { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) text(s string)   { e.u32(uint32(len(s))); e.b = append(e.b, s...) }

// finish writes the length; more bytes follow the frame from elsewhere.
func (e *encoder) finish(more int) []byte {
	binary.LittleEndian.PutUint64(e.b[1:], uint64(len(e.b)-headerBytes+more))
	return e.b
}

// tensor appends a tensor; number tells the number of its buffer.
func (e *encoder) tensor(t *kernels.Tensor) {
	e.u64(uint64(t.Buf.Addr))
	for _, v := range [4]int{t.Off, t.Rows, t.Cols, t.Ld} {
		e.u64(uint64(v))
	}
	flags := byte(0)
	if t.Frozen {
		flags |= 1
	}
	if t.Q != nil {
		flags |= 2
	}
	e.u8(byte(t.Type))
	if e.u8(flags); t.Q != nil {
		e.u64(uint64(t.Q.Block))
		e.u64(uint64(t.Q.First))
		e.tensor(&t.Q.Absmax)
	}
}

// command appends a command: which tensors it has, then they, then its numbers.
func (e *encoder) command(c *kernels.Cmd) {
	e.u32(uint32(c.Op))
	has := uint32(0)
	for i := range c.T {
		if c.T[i].Buf != nil {
			has |= 1 << i
		}
	}
	e.u32(has)
	for i := range c.T {
		if c.T[i].Buf != nil {
			e.tensor(&c.T[i])
		}
	}
	for _, v := range c.I {
		e.u32(uint32(v))
	}
	for _, v := range c.F {
		e.u32(math.Float32bits(v))
	}
}

// decoder takes a frame's body apart. After the first error everything is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errFrame
		return make([]byte, min(max(n, 0), 8))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() byte    { return d.take(1)[0] }
func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// size is a number that counts something.
func (d *decoder) size() int {
	v := d.u64()
	if v > maxFrame {
		d.err = errFrame
		return 0
	}
	return int(v)
}

func (d *decoder) text() string {
	n := int(d.u32())
	if n > len(d.b) {
		d.err = errFrame
		return ""
	}
	return string(d.take(n))
}

// tensor reads one whose buffer must be in table and hold it.
func (d *decoder) tensor(table map[uint64]*kernels.Buffer) kernels.Tensor { return d.nested(table, 1) }

func (d *decoder) nested(table map[uint64]*kernels.Buffer, depth int) kernels.Tensor {
	number := d.u64()
	t := kernels.Tensor{Off: d.size(), Rows: d.size(), Cols: d.size(), Ld: d.size(), Type: dtype.Type(d.u8())}
	flags := d.u8()
	t.Frozen = flags&1 != 0
	if flags&2 != 0 {
		if depth == 0 {
			d.err = errFrame
			return kernels.Tensor{}
		}
		q := &kernels.Quant{Block: d.size(), First: d.size()}
		q.Absmax = d.nested(table, depth-1)
		t.Q = q
	}
	if d.err != nil {
		return kernels.Tensor{}
	}
	if t.Buf = table[number]; t.Buf == nil {
		d.err = fmt.Errorf("buffer %d is not there", number)
	} else if !t.Type.Valid() || !fits(&t) {
		d.err = errFrame
	}
	return t
}

// fits reports whether a tensor lies inside its buffer. Sizes are below 2³⁸; products of two fit 128 bits alone, so
// factors are bounded by what the buffer could hold first.
func fits(t *kernels.Tensor) bool {
	most := t.Buf.Size * 8 / t.Type.Bits()
	if t.Rows == 0 || t.Cols == 0 {
		return true
	}
	if t.Off > most || t.Cols > most || t.Rows > 1 && (t.Ld < t.Cols || t.Ld > most || t.Rows-1 > most/max(t.Ld, 1)) {
		return false
	}
	return t.Off+(t.Rows-1)*t.Ld+t.Cols <= most
}

// commands reads commands to the end of the frame.
func (d *decoder) commands(into []kernels.Cmd, table map[uint64]*kernels.Buffer) []kernels.Cmd {
	for d.err == nil && len(d.b) > 0 {
		c := kernels.Cmd{Op: kernels.Op(d.u32())}
		if c.Op == kernels.OpNone || c.Op >= kernels.NumOps {
			d.err = errFrame
			break
		}
		has := d.u32()
		for i := range c.T {
			if has>>i&1 != 0 {
				c.T[i] = d.tensor(table)
			}
		}
		for i := range c.I {
			c.I[i] = int32(d.u32())
		}
		for i := range c.F {
			c.F[i] = math.Float32frombits(d.u32())
		}
		into = append(into, c)
	}
	return into
}

// readFrame reads a frame's header, and its body into memory of room if that is large enough.
func readFrame(r io.Reader, room []byte) (kind byte, body []byte, err error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint64(head[1:])
	if n > maxFrame {
		return 0, nil, errFrame
	}
	body, err = readBody(r, room[:0], int(n))
	return head[0], body, err
}

// readBody grows as bytes arrive: a broken length takes no memory.
func readBody(r io.Reader, b []byte, n int) ([]byte, error) {
	const step = 16 << 20
	for len(b) < n {
		part := min(n-len(b), max(step, cap(b)-len(b)))
		at := len(b)
		if cap(b) < at+part {
			b = append(make([]byte, 0, max(at+part, min(n, 2*at))), b...)
		}
		b = b[:at+part]
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
