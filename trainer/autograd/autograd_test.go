package autograd_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// rig is a tape with one trained weight on it.
type rig struct {
	*autograd.Tape
	t     *testing.T
	arena *kernels.Arena
	w     *autograd.Param
	door  *door
}

// door counts what a tape does with its weights.
type door struct {
	*autograd.Resident
	log  []string
	fail error
}

func (d *door) Acquire(_ context.Context, unit int) error {
	d.log = append(d.log, "acquire")
	return d.fail
}

func (d *door) Release(unit int, gradsDone bool) {
	if gradsDone {
		d.log = append(d.log, "done")
	} else {
		d.log = append(d.log, "release")
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dev, err := kernels.Open("cpu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	r := &rig{t: t, arena: kernels.NewArena(dev, 1<<16), door: &door{Resident: autograd.NewResident()},
		w: &autograd.Param{Name: "w", Rows: 2, Cols: 2}}
	s := kernels.NewStream(dev)
	flat, err := kernels.Alloc(dev, dtype.F32, 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	grads, err := kernels.Alloc(dev, dtype.F32, 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	s.Upload(flat, []float32{1, 2, 3, 4})
	r.door.Train(r.w, flat, grads)
	r.Tape = autograd.New(s, r.door, r.arena)
	r.Begin(context.Background(), true)
	return r
}

func (r *rig) value(rows, cols int, v ...float32) kernels.Tensor {
	x := r.Alloc(rows, cols)
	r.S.Upload(x, v)
	return x
}

func (r *rig) read(x kernels.Tensor) []float32 {
	r.t.Helper()
	v := make([]float32, x.Len())
	if err := r.S.Download(v, x); err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) wants(name string, x kernels.Tensor, want ...float32) {
	r.t.Helper()
	if got := r.read(x); !slices.Equal(got, want) {
		r.t.Errorf("%s is %v, want %v", name, got, want)
	}
}

func (r *rig) back(out autograd.Var, d ...float32) {
	r.t.Helper()
	if err := r.Backward(context.Background(), []autograd.Var{out}, []kernels.Tensor{r.value(out.T.Rows, out.T.Cols, d...)}); err != nil {
		r.t.Fatal(err)
	}
}

// TestSharedValue: a value that is used twice gets both gradients, and a weight that is used twice too.
func TestSharedValue(t *testing.T) {
	r := newRig(t)
	x := autograd.Const(r.value(1, 2, 1, 10))
	h := r.Linear(x, r.w, nil, false) // 1·1+2·10, 1·3+4·10 = 21, 43
	y := r.Add(r.Scale(h, 2), h)
	r.wants("y", y.T, 63, 129)
	r.back(y, 1, 1)
	dh, ok := r.Grad(h)
	if !ok {
		t.Fatal("h has no gradient")
	}
	r.wants("dh", dh, 3, 3)
	dw, _ := r.door.Grad(r.w)
	r.wants("dw", dw, 3, 30, 3, 30)
}

// TestSplit: columns that nobody uses get zero, and a split that nobody uses stops nothing.
func TestSplit(t *testing.T) {
	r := newRig(t)
	h := r.Linear(autograd.Const(r.value(1, 2, 1, 1)), r.w, nil, false)
	p := r.Split(h, 1, 1)
	r.back(r.Scale(p[1], 5), 1)
	dh, _ := r.Grad(h)
	r.wants("dh", dh, 0, 5)

	r.Begin(context.Background(), true)
	h = r.Linear(autograd.Const(r.value(1, 2, 1, 1)), r.w, nil, false)
	r.Split(r.Scale(h, 1), 1, 1)
	r.back(h, 1, 2)
	dh, _ = r.Grad(h)
	r.wants("dh", dh, 1, 2)
}

func TestAddLinear(t *testing.T) {
	r := newRig(t)
	frozen := autograd.Const(r.value(1, 2, 100, 200))
	y := r.AddLinear(frozen, autograd.Const(r.value(1, 2, 1, 1)), r.w)
	r.wants("y", y.T, 103, 207)
	if !y.Wants() {
		t.Fatal("a trained term must make the sum want a gradient")
	}
	r.back(y, 1, 2)
	dw, _ := r.door.Grad(r.w)
	r.wants("dw", dw, 1, 1, 2, 2)
}

func TestHost(t *testing.T) {
	r := newRig(t)
	h := r.Linear(autograd.Const(r.value(1, 2, 1, 0)), r.w, nil, false) // 1, 3
	square := autograd.HostFunc{
		Forward: func(_ context.Context, in, out [][]float32) error {
			for i, v := range in[0] {
				out[0][i] = v * v
			}
			return nil
		},
		Backward: func(_ context.Context, d, in [][]float32) error {
			for i, v := range d[0] {
				in[0][i] = v * 2 * float32(1+2*i)
			}
			return nil
		},
	}
	y := r.Host(square, []autograd.Var{h}, autograd.Shape{Rows: 1, Cols: 2})[0]
	r.wants("y", y.T, 1, 9)
	r.back(r.Add(y, h), 1, 1)
	dh, _ := r.Grad(h)
	r.wants("dh", dh, 3, 7)
}

func TestHostError(t *testing.T) {
	r := newRig(t)
	sorry := errors.New("sorry")
	h := r.Linear(autograd.Const(r.value(1, 2, 1, 0)), r.w, nil, false)
	r.Host(autograd.HostFunc{Forward: func(context.Context, [][]float32, [][]float32) error { return sorry }},
		[]autograd.Var{h}, autograd.Shape{Rows: 1, Cols: 2})
	if !errors.Is(r.Err(), sorry) {
		t.Fatalf("error %v, want %v", r.Err(), sorry)
	}
}

// TestUnits: a unit's weights are at hand forward and backward, and handed back after each, whatever the way.
func TestUnits(t *testing.T) {
	f := func(r *rig) func(autograd.Var) autograd.Var {
		return func(x autograd.Var) autograd.Var { return r.Linear(x, r.w, nil, false) }
	}
	for _, tc := range []struct {
		name   string
		record bool
		run    func(r *rig, x autograd.Var) autograd.Var
		want   []string
	}{
		{"unit", true, func(r *rig, x autograd.Var) autograd.Var { return r.Unit(x, []int{3}, f(r)) },
			[]string{"acquire", "release", "acquire", "done"}},
		{"checkpoint", true, func(r *rig, x autograd.Var) autograd.Var { return r.Checkpoint(x, []int{3}, f(r)) },
			[]string{"acquire", "release", "acquire", "done"}},
		{"no record", false, func(r *rig, x autograd.Var) autograd.Var { return r.Unit(x, []int{3}, f(r)) },
			[]string{"acquire", "release"}},
	} {
		r := newRig(t)
		r.Begin(context.Background(), tc.record)
		y := tc.run(r, autograd.Const(r.value(1, 2, 1, 1)))
		r.wants(tc.name, y.T, 3, 7)
		if tc.record {
			r.back(y, 1, 2)
			dw, _ := r.door.Grad(r.w)
			r.wants(tc.name+" dw", dw, 1, 1, 2, 2)
		}
		if !slices.Equal(r.door.log, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, r.door.log, tc.want)
		}
	}
}

func TestAcquireError(t *testing.T) {
	r := newRig(t)
	r.door.fail = errors.New("the network is gone")
	r.Unit(autograd.Const(r.value(1, 2, 1, 1)), []int{0}, func(x autograd.Var) autograd.Var { return x })
	if !errors.Is(r.Err(), r.door.fail) {
		t.Fatalf("error %v, want %v", r.Err(), r.door.fail)
	}
}

// TestArenaIsStable: the second pass takes no memory.
func TestArenaIsStable(t *testing.T) {
	r := newRig(t)
	pass := func() int {
		r.Begin(context.Background(), true)
		y := r.Linear(autograd.Const(r.value(1, 2, 1, 1)), r.w, nil, false)
		for range 2000 {
			y = r.Scale(y, 1)
		}
		r.back(y, 1, 1)
		return r.arena.Bytes()
	}
	if first, second := pass(), pass(); first != second {
		t.Errorf("the arena grew from %d to %d bytes", first, second)
	}
}
