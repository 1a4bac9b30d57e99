package cpu

import (
	"testing"
	"time"
)

// TestSettle: where features leave a choice it is made within milliseconds, and one microkernel is kept for few columns.
func TestSettle(t *testing.T) {
	for _, f := range families() {
		start := time.Now()
		if f.settle(); len(f.slim) != 1 || f.slim[0].run == nil || f.gemm.run == nil {
			t.Errorf("%s: %d microkernels for few columns", f.name, len(f.slim))
		}
		t.Logf("%s: %v, %dx%d and %dx%d", f.name, time.Since(start), f.gemm.mr, f.gemm.nr, f.slim[0].mr, f.slim[0].nr)
	}
}

// TestSlowWide: a wide microkernel that is slower than the slim one is not taken.
func TestSlowWide(t *testing.T) {
	slow := newGeneric().gemm
	run := slow.run
	slow.run = func(kc int, a, b, c *float32, ldc, add int, next, then *float32) {
		for range 4 {
			run(kc, a, b, c, ldc, add, next, then)
		}
	}
	f := newGeneric()
	slow.fewer = []variant{{slow.mr, slow.run}} // to know it by
	f.gemm, f.slim = slow, []microkernel{slow, newGeneric().gemm}
	if f.settle(); f.gemm.fewer != nil || f.slim[0].fewer != nil {
		t.Error("the slow microkernel was kept")
	}
}

// TestCapped: where the process may have less memory than the machine, no weight is kept packed unless somebody says so.
func TestCapped(t *testing.T) {
	for _, m := range []*memory{{limit: 1 << 30}, {limit: 1 << 30, capped: true}} {
		if got := m.keepBudget() > 0; got == m.capped {
			t.Errorf("capped %v: packed weights may take %d bytes", m.capped, m.keepBudget())
		}
	}
}
