package cpubench

import (
	"context"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// TestFigures: each kind of measurement gives figures that can be.
func TestFigures(t *testing.T) {
	dev, err := cpu.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	b, ctx := New(dev), context.Background()
	b.Least = time.Microsecond
	figures, err := b.Peaks(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := b.GEMM(ctx, Shape{24, 33, 10}, Layouts[2], dtype.F32, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(figures, f) {
		if f.Value <= 0 || f.Value > 1e6 || f.Name == "" || f.Unit == "" {
			t.Errorf("%+v", f)
		}
	}
}
