package cpu

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
)

// TestPool: every task runs once, with any number of workers, also while the number changes.
func TestPool(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newPool(newGeneric(), newMemory())
	defer p.close()
	for round := range 2000 {
		runtime.GOMAXPROCS(1 + round/100%5)
		p.follow()
		n := round % 17
		ran := make([]atomic.Int32, n)
		p.each(n, func(w *worker, i int) { ran[i].Add(1) })
		for i := range ran {
			if ran[i].Load() != 1 {
				t.Fatalf("round %d: task %d of %d ran %d times", round, i, n, ran[i].Load())
			}
		}
	}
}

// TestWorkersShareNothing: two tasks that run at the same time have different workers.
func TestWorkersShareNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	p := newPool(newGeneric(), newMemory())
	defer p.close()
	for range 200 {
		p.each(64, func(w *worker, i int) {
			row := w.scratch(scratchRow, 100)
			for j := range row {
				row[j] = float32(i)
			}
			runtime.Gosched()
			for _, v := range row {
				if v != float32(i) {
					t.Errorf("task %d found %v in its scratch memory", i, v)
					return
				}
			}
		})
	}
}

// TestGemmBlocks crosses every block border and compares samples with the definition.
func TestGemmBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	m, n, k := 3*tileM+37, 9*tileN+45, 2*blockK+9
	a, b, c := newMat(r, m, k), newMat(r, n, k), newMat(r, m, n)
	start := append([]float32(nil), c.p...)
	d, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.gemm(product{a: plain(a, false), b: plain(b, true), c: matrix{mat: c}, add: true})
	for range 5000 {
		i, j := r.IntN(m), r.IntN(n)
		want := start[i*n+j]
		for x := range k {
			want = fma(a.p[i*k+x], b.p[j*k+x], want)
		}
		if got := c.p[i*n+j]; got != want {
			t.Fatalf("element (%d,%d) is %v, want %v", i, j, got, want)
		}
	}
}

// TestMemory: blocks are zeroed, aligned and bounded by what the machine has.
func TestMemory(t *testing.T) {
	m := newMemory()
	m.limit = 1 << 20
	a, err := m.alloc(1000)
	if err != nil || len(a) != 1000 {
		t.Fatalf("%d bytes, %v", len(a), err)
	}
	for _, v := range a {
		if v != 0 {
			t.Fatal("memory is not zeroed")
		}
	}
	if _, err := m.alloc(1 << 20); err == nil {
		t.Error("more than the limit was given")
	}
	if _, err := m.alloc(-1); err == nil {
		t.Error("a negative size was taken")
	}
	a[0] = 1
	m.free(a)
	if m.used != 0 {
		t.Errorf("after free %d bytes are used", m.used)
	}
	b, err := m.alloc(900)
	if err != nil || &b[0] != &a[0] || b[0] != 0 {
		t.Errorf("a freed block was not used again, zeroed (%v)", err)
	}
	if err := m.close(); err != nil {
		t.Error(err)
	}
}
