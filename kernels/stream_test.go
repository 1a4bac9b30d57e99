package kernels_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

func open(t *testing.T) kernels.Device {
	t.Helper()
	dev, err := kernels.Open("cpu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func TestOpen(t *testing.T) {
	for _, name := range []string{"", "tpu", "cpu:avx1024", "CPU"} {
		if dev, err := kernels.Open(name); err == nil {
			t.Errorf("%q opened %v", name, dev.Info())
		} else if !strings.Contains(err.Error(), "cpu") && !strings.Contains(err.Error(), "generic") {
			t.Errorf("%q: the message does not say what there is: %v", name, err)
		}
	}
	if info := open(t).Info(); info.Name != "cpu" || info.Kernel == "" || info.Workers < 1 {
		t.Errorf("info %+v", info)
	}
}

// TestArena: the same shapes get the same places after a Reset, places are aligned and apart, and nothing is allocated
// the second time.
func TestArena(t *testing.T) {
	dev := open(t)
	a := kernels.NewArena(dev, 4096)
	step := func() (out []kernels.Tensor) {
		for _, s := range [][2]int{{3, 5}, {40, 40}, {1, 1}, {0, 7}, {100, 100}, {2, 2}} {
			out = append(out, a.F32(s[0], s[1]))
		}
		return append(out, a.Tensor(dtype.BF16, 3, 3), a.I32(2, 1))
	}
	first := step()
	held := a.Bytes()
	a.Reset()
	if second := step(); !slices.Equal(first, second) || a.Bytes() != held {
		t.Error("the second step got other places")
	}
	for i, x := range first {
		if start := x.Type.Bytes(x.Off); start%64 != 0 {
			t.Errorf("tensor %d starts at byte %d", i, start)
		}
		for _, y := range first[:i] {
			if x.Buf == y.Buf && x.Len() > 0 && y.Len() > 0 && x.Type.Bytes(x.Off) < y.Type.Bytes(y.Off+y.Len()) && y.Type.Bytes(y.Off) < x.Type.Bytes(x.Off+x.Len()) {
				t.Errorf("tensors %v and %v overlap", x, y)
			}
		}
	}
	m := a.Mark()
	x := a.F32(5, 5)
	a.Release(m)
	if y := a.F32(5, 5); x != y {
		t.Error("release did not give the place back")
	}
	if n := testing.AllocsPerRun(10, func() { a.Reset(); a.F32(9, 9); a.F32(100, 100) }); n > 0 {
		t.Errorf("a warm arena allocates %v times", n)
	}
}

// TestFree: freed slabs serve again, and a tensor on a freed slab is refused.
func TestFree(t *testing.T) {
	dev := open(t)
	a, s := kernels.NewArena(dev, 1<<16), kernels.NewStream(dev)
	x := a.F32(10, 10)
	s.Fill(x, 3)
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	held := dev.Info().InUse
	a.Free()
	if freed := held - dev.Info().InUse; freed != 1<<16 {
		t.Errorf("%d bytes are in use less after a slab of %d was freed", freed, 1<<16)
	}
	got := make([]float32, 100)
	if err := s.Download(got, a.F32(10, 10)); err != nil || got[0] != 0 || a.Bytes() != 1<<16 {
		t.Errorf("new memory starts with %v, arena holds %d bytes, %v", got[0], a.Bytes(), err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a freed tensor was taken")
		}
	}()
	s.Fill(x, 1)
}

// TestFreeAfterClose: an owner that comes late to a closed device does no harm, and gets no memory.
func TestFreeAfterClose(t *testing.T) {
	dev, err := kernels.Open("cpu")
	if err != nil {
		t.Fatal(err)
	}
	x, err := kernels.Alloc(dev, dtype.F32, 10, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	kernels.Free(dev, x.Buf)
	if _, err := kernels.Alloc(dev, dtype.F32, 1, 1); err == nil {
		t.Error("a closed device gave memory")
	}
}

// full is a device whose memory has run out.
type full struct{ kernels.Device }

var errFull = errors.New("full")

func (full) Alloc(int) (*kernels.Buffer, error) { return nil, errFull }

// TestArenaFull: the arena reports why there is no memory, and a stream given a dead tensor takes over the reason and
// drops the command.
func TestArenaFull(t *testing.T) {
	dev := full{open(t)}
	a, s := kernels.NewArena(dev, 64), kernels.NewStream(dev)
	x, y := a.F32(2, 2), a.F32(2, 2)
	if !errors.Is(a.Err(), errFull) {
		t.Errorf("arena: %v", a.Err())
	}
	s.Upload(x, make([]float32, 4))
	s.Add(x, y, y)
	if err := s.Sync(context.Background()); !errors.Is(err, errFull) {
		t.Errorf("stream: %v", err)
	}
	if err := s.Download(make([]float32, 4), x); !errors.Is(err, errFull) {
		t.Errorf("download: %v", err)
	}
	if _, err := kernels.Alloc(dev, dtype.F32, 2, 2); !errors.Is(err, errFull) {
		t.Errorf("alloc: %v", err)
	}
	huge := kernels.NewArena(dev, 64)
	if huge.F32(math.MaxInt/2, 3); huge.Err() == nil {
		t.Error("a size that overflows was taken")
	}
	if _, err := kernels.Alloc(dev, dtype.F32, 1<<40, 1<<40); err == nil || errors.Is(err, errFull) {
		t.Errorf("a size that overflows: %v", err)
	}
}

// TestTransfers: windows with gaps are written and read in row order.
func TestTransfers(t *testing.T) {
	dev := open(t)
	s, a := kernels.NewStream(dev), kernels.NewArena(dev, 4096)
	frame := a.F32(3, 4)
	s.Fill(frame, 9)
	s.Upload(frame.SliceRows(1, 3).SliceCols(1, 3), []float32{1, 2, 3, 4})
	got := make([]float32, 12)
	if err := s.Download(got, frame); err != nil || !slices.Equal(got, []float32{9, 9, 9, 9, 9, 1, 2, 9, 9, 3, 4, 9}) {
		t.Errorf("frame %v, %v", got, err)
	}
	small := make([]float32, 4)
	if err := s.Download(small, frame.SliceRows(1, 3).SliceCols(1, 3)); err != nil || !slices.Equal(small, []float32{1, 2, 3, 4}) {
		t.Errorf("window %v, %v", small, err)
	}
	if err := dev.Write(frame, make([]byte, 3)); err == nil {
		t.Error("a short write was taken")
	}
}

// TestShapes: a wrong shape panics and names both.
func TestShapes(t *testing.T) {
	dev := open(t)
	s, a := kernels.NewStream(dev), kernels.NewArena(dev, 4096)
	x, y, ids := a.F32(3, 4), a.F32(5, 2), a.I32(3, 1)
	for want, f := range map[string]func(){
		"kernels: MatMul (3,2) f32 (3,4) f32 (5,2) f32 none": func() { s.MatMul(a.F32(3, 2), x, y, kernels.MatMul{}) },
		"kernels: Add (3,4) f32 (3,4) f32 (5,2) f32":         func() { s.Add(x, x, y) },
		"kernels: GatherRows (3,4) f32 (5,2) f32 (3,1) i32":  func() { s.GatherRows(x, y, ids) },
		"kernels: ArgMax (3,1) i32 (3,1) i32":                func() { s.ArgMax(ids, ids) },
		"kernels: reshape (3,4) f32 to (5,2)":                func() { x.Reshape(5, 2) },
		"kernels: rows [2,9) of (3,4) f32":                   func() { x.SliceRows(2, 9) },
		"kernels: upload of 3 f32 to (3,4) f32":              func() { s.Upload(x, make([]float32, 3)) },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("panic %v, want %q", got, want)
				}
			}()
			f()
		}()
	}
	outside := x
	outside.Off += 1 << 20
	defer func() {
		if got, _ := recover().(string); !strings.Contains(got, "outside its buffer") {
			t.Errorf("a tensor outside its buffer: %q", got)
		}
	}()
	s.Fill(outside, 0)
}

// TestSteadyState: recording and running ordinary ops allocates next to nothing.
func TestSteadyState(t *testing.T) {
	dev, err := cpu.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, a := kernels.NewStream(dev), kernels.NewArena(dev, 1<<20)
	x, y, w := a.F32(64, 64), a.F32(64, 64), a.F32(1, 64)
	step := func() {
		s.MatMul(x, y, y, kernels.MatMul{TB: true})
		s.Mul(y, x, w, kernels.Set)
		s.Flush()
	}
	step()
	if n := testing.AllocsPerRun(20, step); n > 4 {
		t.Errorf("two ops allocate %v times", n)
	}
}
