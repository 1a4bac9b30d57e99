package cpu

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestFMA compares with exact arithmetic, rounded once, where double rounding would go wrong too.
func TestFMA(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	check := func(a, b, c float32) {
		t.Helper()
		exact := new(big.Float).SetPrec(600).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
		exact.Add(exact, big.NewFloat(float64(c)))
		want, _ := exact.Float32()
		if got := fma(a, b, c); got != want {
			t.Fatalf("fma(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
	for range 200000 {
		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		c := float32(r.NormFloat64() * math.Exp2(float64(r.IntN(80)-40)))
		check(a, b, c)
		check(a, b, -float32(a*b))                                                                               // cancels: the product's rounding error is left
		check(a*0x1p-70, b*0x1p-70, c*0x1p-140)                                                                  // subnormal results
		check(1+float32(r.IntN(1<<12))*0x1p-23, 1+float32(r.IntN(1<<12))*0x1p-23, float32(r.IntN(1<<24))*0x1p26) // near ties
		check(1+float32(r.IntN(1<<12))*0x1p-23, 1-float32(r.IntN(1<<12))*0x1p-23, float32(1<<24+r.IntN(1<<24)))
	}
	if got := fma(float32(math.Inf(1)), 0, 1); got == got {
		t.Errorf("fma(Inf, 0, 1) = %v", got)
	}
}

// TestExp: the relative error over the whole range, and the ends.
func TestExp(t *testing.T) {
	worst := 0.0
	for x := float32(-86.98); x < 88.7; x += 0.00037 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(exp(x))/want-1))
	}
	t.Logf("largest relative error %.3g", worst)
	if worst > 1.3e-7 {
		t.Errorf("relative error %.3g", worst)
	}
	for x, want := range map[float32]float32{0: 1, negInf: 0, -87: 0, -104: 0, 89: float32(math.Inf(1)), float32(math.Inf(1)): float32(math.Inf(1))} {
		if got := exp(x); got != want {
			t.Errorf("exp(%v) = %v, want %v", x, got, want)
		}
	}
	if got := exp(float32(math.NaN())); got == got {
		t.Errorf("exp(NaN) = %v", got)
	}
}
