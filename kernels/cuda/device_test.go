//go:build cuda

package cuda

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestTransfers: windows of all shapes go up and come back, also larger than a piece, packed and with gaps.
func TestTransfers(t *testing.T) {
	d := open(t, Options{})
	rng := rand.New(rand.NewPCG(3, 4))
	for _, s := range [][3]int{{0, 5, 0}, {1, 1, 0}, {3, 7, 2}, {1, pieceBytes/4 + 3, 0}, {2, pieceBytes/4 + 5, 3}, {900, 1700, 1}, {700, 4001, 0}} {
		frame, err := kernels.Alloc(d, dtype.F32, s[0]+2, s[1]+s[2])
		if err != nil {
			t.Fatal(err)
		}
		w := frame.SliceRows(1, 1+s[0]).SliceCols(0, s[1])
		src := make([]float32, w.Len())
		for i := range src {
			src[i] = rng.Float32()
		}
		st := kernels.NewStream(d)
		st.Fill(frame, 9)
		st.Upload(w, src)
		got, all := make([]float32, w.Len()), make([]float32, frame.Len())
		if err := st.Download(got, w); err != nil || !slices.Equal(got, src) {
			t.Errorf("%v: came back different (%v)", s, err)
		}
		if err := st.Download(all, frame); err != nil {
			t.Fatal(err)
		}
		for i, v := range all {
			r, c := i/frame.Cols, i%frame.Cols
			if inside := r > 0 && r <= s[0] && c < s[1]; !inside && v != 9 {
				t.Fatalf("%v: wrote %v at row %d column %d of the frame", s, v, r, c)
			}
		}
		kernels.Free(d, frame.Buf)
	}
	if used := d.Info().InUse; used != 0 {
		t.Errorf("%d bytes are in use after all was freed", used)
	}
}

// TestOrder: uploads, commands and downloads of several goroutines each keep their order, whatever the streams of the
// GPU do first.
func TestOrder(t *testing.T) {
	d := open(t, Options{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			s, a := kernels.NewStream(d), kernels.NewArena(d, 1<<16)
			defer a.Free()
			for i := range 30 {
				x, y := a.F32(5, 33), a.F32(5, 33)
				v := make([]float32, 5*33)
				for k := range v {
					v[k] = float32(g*1000 + i)
				}
				s.Upload(x, v)
				s.Add(y, x, x)
				s.Upload(x, make([]float32, len(v))) // after the addition has read it
				got := make([]float32, len(v))
				if err := s.Download(got, y); err != nil || got[7] != 2*v[7] || got[len(got)-1] != 2*v[7] {
					t.Errorf("goroutine %d, turn %d: %v, want %v (%v)", g, i, got[7], 2*v[7], err)
					return
				}
				a.Reset()
			}
		})
	}
	wg.Wait()
}

// TestUploadsRunBeside: what is written to memory that nobody uses does not wait for commands that were sent before, and
// what is written to memory that they use does.
func TestUploadsRunBeside(t *testing.T) {
	d := open(t, Options{})
	if !emulated(d) {
		t.Skip("a GPU is too fast to be caught at it")
	}
	s, a := kernels.NewStream(d), kernels.NewArena(d, 1<<16)
	defer a.Free()
	big := make([]float32, 3*pieceBytes/4+5)
	fill := func(v float32) []float32 {
		for i := range big {
			big[i] = v
		}
		return big
	}
	busy, err1 := kernels.Alloc(d, dtype.F32, 1, len(big))
	free, err2 := kernels.Alloc(d, dtype.F32, 1, len(big))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	sum, one := a.F32(1, 1), a.F32(1, 1)
	s.Fill(one, 1)
	s.Upload(busy, fill(2))
	s.Fill(sum, 0)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		s.Add(sum, sum, one)
	}
	s.Add(sum, sum, busy.SliceCols(7, 8))
	s.Flush()
	last := d.uses.events[(d.uses.open-1)%uint64(len(d.uses.events))]
	s.Upload(free, fill(3))
	if passed, err := last.Passed(); passed || err != nil {
		t.Errorf("the upload waited for commands that use other memory (%v)", err)
	}
	s.Upload(busy, fill(4))
	if passed, err := last.Passed(); !passed || err != nil {
		t.Errorf("the upload did not wait for a command that reads the memory (%v)", err)
	}
	s.Add(sum, sum, free.SliceCols(1, 2))
	s.Add(sum, sum, busy.SliceCols(len(big)-1, len(big)))
	got := make([]float32, 1)
	if err := s.Download(got, sum); err != nil || got[0] != 300+2+3+4 {
		t.Errorf("sum %v, want %v (%v)", got[0], 300+2+3+4, err)
	}
}

// TestManySmallUploads: more than the pinned memory for them holds, into memory that commands between them read.
func TestManySmallUploads(t *testing.T) {
	d := open(t, Options{})
	s, a := kernels.NewStream(d), kernels.NewArena(d, 1<<20)
	defer a.Free()
	x, sum := a.F32(1, 11000), a.F32(1, 11000)
	s.Fill(sum, 0)
	v, want := make([]float32, x.Cols), float32(0)
	for turn := range 3 * smallParts * smallPart / (4 * x.Cols) {
		for i := range v {
			v[i] = float32(turn)
		}
		s.Upload(x, v)
		s.Add(sum, sum, x)
		want += float32(turn)
	}
	if err := s.Download(v, sum); err != nil || slices.Min(v) != want || slices.Max(v) != want {
		t.Errorf("sums from %v to %v, want %v (%v)", slices.Min(v), slices.Max(v), want, err)
	}
}

// TestFresh memory is zero, also where something was before.
func TestFresh(t *testing.T) {
	d := open(t, Options{})
	for range 3 {
		x, err := kernels.Alloc(d, dtype.F32, 40, 50)
		if err != nil {
			t.Fatal(err)
		}
		s, got := kernels.NewStream(d), make([]float32, x.Len())
		if err := s.Download(got, x); err != nil || slices.Max(got) != 0 || slices.Min(got) != 0 {
			t.Errorf("fresh memory has %v to %v (%v)", slices.Min(got), slices.Max(got), err)
		}
		s.Fill(x, float32(math.Inf(1)))
		s.Flush()
		kernels.Free(d, x.Buf)
	}
}

// TestLimit: a device takes no more memory than it may, and says so.
func TestLimit(t *testing.T) {
	d := open(t, Options{Caps: Caps{Bytes: 1 << 20}})
	if d.Info().MemBytes != 1<<20 {
		t.Errorf("memory of %d bytes", d.Info().MemBytes)
	}
	a, err := d.Alloc(900 << 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Alloc(200 << 10); err == nil {
		t.Error("took more than it may")
	} else {
		t.Log(err)
	}
	kernels.Free(d, a)
	if _, err := d.Alloc(1000 << 10); err != nil {
		t.Error(err)
	}
}

// TestClosed: who comes late does no harm.
func TestClosed(t *testing.T) {
	d := open(t, Options{})
	b, err := d.Alloc(100)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	kernels.Free(d, b)
	if _, err := d.Alloc(1); err == nil {
		t.Error("a closed device gave memory")
	}
	if d.Sync(context.Background()) == nil || d.Run(nil) == nil || d.Close() != nil {
		t.Error("a closed device works")
	}
}

// TestSteadyState: sending commands allocates nothing.
func TestSteadyState(t *testing.T) {
	d := open(t, Options{})
	cmds := chain(t, d, 64)
	if err := d.Run(cmds); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { _ = d.Run(cmds) }); n > 0 {
		t.Errorf("a Run allocates %v times", n)
	}
}

// chain is n small element-wise commands.
func chain(t testing.TB, d *Device, n int) (cmds []kernels.Cmd) {
	x, err := kernels.Alloc(d, dtype.F32, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if i%2 == 0 {
			cmds = append(cmds, kernels.Cmd{Op: kernels.OpAdd, T: [16]kernels.Tensor{x, x, x}})
		} else {
			cmds = append(cmds, kernels.Cmd{Op: kernels.OpMul, T: [16]kernels.Tensor{x, x, x}})
		}
	}
	return cmds
}

// TestSmallGPU: a GPU with less shared memory than a kernel wants opens, and refuses what it cannot do.
func TestSmallGPU(t *testing.T) {
	d := open(t, Options{})
	had := d.gpu.SharedBytes
	defer func() { d.gpu.SharedBytes = had }()
	d.gpu.SharedBytes = 96 << 10
	a, s := kernels.NewArena(d, 1<<16), kernels.NewStream(d)
	defer a.Free()
	q, lse := a.F32(1, 256), a.F32(1, 1)
	table := func(v ...int32) kernels.Tensor {
		x := a.I32(len(v), 1)
		s.UploadI32(x, v)
		return x
	}
	spec := kernels.AttnSpec{Heads: 1, KVHeads: 1, HeadDim: 256, Scale: 1,
		Seqs: &kernels.Seqs{N: 1, Count: 1, MaxQ: 1, MaxK: 1, QStart: table(0, 1), KStart: table(0), KLen: table(1)}}
	s.Attention(a.F32(1, 256), lse, q, q, q, spec)
	if err := s.Sync(context.Background()); err != nil {
		t.Errorf("attention of heads of 256: %v", err)
	}
	s.AttentionBack(a.F32(1, 256), a.F32(1, 256), a.F32(1, 256), q, q, q, q, q, lse, spec, kernels.Set)
	if err := s.Sync(context.Background()); err == nil {
		t.Error("a kernel was launched that does not fit")
	} else {
		t.Log(err)
	}
}
