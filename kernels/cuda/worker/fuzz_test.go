package worker

import (
	"bytes"
	"io"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// FuzzFrames: whatever arrives is refused or leads to commands whose tensors lie inside their buffers.
func FuzzFrames(f *testing.F) {
	buf := &kernels.Buffer{Addr: 1, Size: 4096}
	x := kernels.Tensor{Buf: buf, Rows: 4, Cols: 8, Ld: 16, Off: 3, Type: dtype.F32}
	q := kernels.Tensor{Buf: buf, Rows: 4, Cols: 8, Ld: 8, Type: dtype.NF4, Frozen: true, Q: &kernels.Quant{Absmax: x.SliceRows(0, 1), Block: 64}}
	var e encoder
	e.start(kindRun)
	e.command(&kernels.Cmd{Op: kernels.OpMatMul, T: [16]kernels.Tensor{x, x, q}, I: [12]int32{1, -2}, F: [4]float32{0.5}})
	e.command(&kernels.Cmd{Op: kernels.OpFill, T: [16]kernels.Tensor{x}})
	f.Add(bytes.Clone(e.finish(0)))
	f.Add([]byte{kindSync, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{kindWrite, 255, 255, 255, 255, 255, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, body, err := readFrame(bytes.NewReader(in), nil)
		if err != nil || kind != kindRun {
			return
		}
		table := map[uint64]*kernels.Buffer{1: buf}
		d := decoder{b: body}
		for _, c := range d.commands(nil, table) {
			if d.err != nil {
				return
			}
			for _, t2 := range c.T {
				if t2.Buf != nil && t2.Len() > 0 && t2.Type.Bytes(t2.Off+(t2.Rows-1)*t2.Ld+t2.Cols) > buf.Size {
					t.Fatalf("%v at %d, rows %d apart, of %d bytes", t2, t2.Off, t2.Ld, buf.Size)
				}
			}
		}
	})
}

// TestFrames: what is encoded comes out again.
func TestFrames(t *testing.T) {
	buf, scales := &kernels.Buffer{Addr: 1, Size: 4096}, &kernels.Buffer{Addr: 2, Size: 512}
	x := kernels.Tensor{Buf: buf, Rows: 4, Cols: 8, Ld: 16, Off: 3, Type: dtype.BF16}
	a := kernels.Tensor{Buf: scales, Rows: 1, Cols: 8, Ld: 8}
	want := kernels.Cmd{Op: kernels.OpAttention, I: [12]int32{1, -2, 3}, F: [4]float32{0.5, 0, -1}}
	want.T[0], want.T[15] = x, x.SliceRows(1, 3)
	want.T[7] = kernels.Tensor{Buf: buf, Rows: 2, Cols: 8, Ld: 8, Type: dtype.I8, Frozen: true, Q: &kernels.Quant{Absmax: a, Block: 16, First: 5}}
	var e encoder
	e.start(kindRun)
	e.command(&want)
	kind, body, err := readFrame(bytes.NewReader(e.finish(0)), nil)
	if err != nil || kind != kindRun {
		t.Fatal(kind, err)
	}
	d := decoder{b: body}
	got := d.commands(nil, map[uint64]*kernels.Buffer{1: buf, 2: scales})
	if d.err != nil || len(got) != 1 {
		t.Fatal(d.err, got)
	}
	if q := got[0].T[7].Q; q == nil || *q != *want.T[7].Q {
		t.Errorf("scales %+v", q)
	}
	got[0].T[7].Q = want.T[7].Q
	if got[0] != want {
		t.Errorf("%+v, want %+v", got[0], want)
	}
	if _, _, err := readFrame(bytes.NewReader(e.b[:20]), nil); err != io.ErrUnexpectedEOF {
		t.Errorf("half a frame: %v", err)
	}
}
