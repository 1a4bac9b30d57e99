//go:build cuda && cudaemu

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// openWithLt opens the emulator with its cuBLASLt, or a GPU with the real one.
func openWithLt(t *testing.T) *Device {
	t.Helper()
	path := os.Getenv(LtVar)
	if path == "none" {
		path = os.Getenv(LibraryVar)
	}
	t.Setenv(LtVar, path)
	d := open(t, Options{Apart: true})
	if d.launch.lt == nil {
		_, err := loadLt()
		t.Skip("no cuBLASLt: ", err)
	}
	return d
}

// place puts numbers on the device as a type, in rows with gaps.
func place(t *testing.T, d *Device, typ dtype.Type, rows, cols, pad int, v []float32) kernels.Tensor {
	t.Helper()
	x, err := kernels.Alloc(d, typ, rows, cols+pad)
	if err != nil {
		t.Fatal(err)
	}
	x = x.SliceCols(0, cols)
	raw := make([]byte, 0, typ.Bytes(rows*cols))
	for _, f := range v {
		if typ == dtype.BF16 {
			h := dtype.ToBF16(f)
			raw = append(raw, byte(h), byte(h>>8))
		} else {
			u := math.Float32bits(f)
			raw = append(raw, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
	}
	if err := d.Write(x, raw); err != nil {
		t.Fatal(err)
	}
	return x
}

// TestProductsOfLt: every layout, type, mode and bias that cuBLASLt is asked for, against float64; the second time no
// plan is made.
func TestProductsOfLt(t *testing.T) {
	d := openWithLt(t)
	for _, s := range [][3]int{{1, 1, 1}, {3, 5, 7}, {17, 33, 9}, {64, 32, 48}} {
		for bits := range 64 {
			o := kernels.MatMul{TA: bits&1 != 0, TB: bits&2 != 0, Mode: kernels.Mode(bits >> 2 & 1)}
			typ := []dtype.Type{dtype.F32, dtype.BF16}[bits>>3&1]
			if out := []dtype.Type{dtype.F32, dtype.BF16}[bits>>5]; out == dtype.F32 || typ == dtype.BF16 {
				ltCase(t, d, s, o, typ, out, bits>>4&1 != 0, bits%3)
			}
		}
	}
	before := plans(t)
	ltCase(t, d, [3]int{17, 33, 9}, kernels.MatMul{}, dtype.F32, dtype.F32, false, 0)
	if now := plans(t); now != before {
		t.Errorf("plans were made for a product that was there before: %s, then %s", before, now)
	}
}

func plans(t *testing.T) string {
	t.Helper()
	text, err := driver.Text("shoalEmuPlans")
	if err != nil {
		t.Skip(err)
	}
	return text
}

func ltCase(t *testing.T, d *Device, shape [3]int, o kernels.MatMul, typ, out dtype.Type, bias bool, pad int) {
	t.Helper()
	m, n, k := shape[0], shape[1], shape[2]
	rng := rand.New(rand.NewPCG(uint64(m), uint64(n)))
	a, b, c, extra := numbers(rng, m*k, typ), numbers(rng, k*n, typ), numbers(rng, m*n, dtype.F32), numbers(rng, n, dtype.F32)
	ar, ac, br, bc := m, k, k, n
	if o.TA {
		ar, ac = k, m
	}
	if o.TB {
		br, bc = n, k
	}
	x, y, z := place(t, d, typ, ar, ac, pad, a), place(t, d, typ, br, bc, pad, b), place(t, d, out, m, n, pad, c)
	if bias {
		o.Bias = place(t, d, dtype.F32, 1, n, 0, extra)
	}
	s, got, wide, tol := kernels.NewStream(d), make([]float32, m*n), place(t, d, dtype.F32, m, n, 0, c), 1e-5
	if out == dtype.BF16 {
		tol = 0x1p-7 // what was there, the bias and the sum are rounded
	}
	before := d.launch.products
	s.MatMul(z, x, y, o)
	s.Copy(wide, z)
	if err := s.Download(got, wide); err != nil {
		t.Fatal(err)
	}
	if d.launch.products == before {
		t.Errorf("%v: not computed by cuBLASLt", fmt.Sprint(shape, o.TA, o.TB, o.Mode, typ, out, bias))
	}
	for i := range m {
		for j := range n {
			want := 0.0
			for h := range k {
				p, q := i*k+h, h*n+j
				if o.TA {
					p = h*m + i
				}
				if o.TB {
					q = j*k + h
				}
				want += float64(a[p]) * float64(b[q])
			}
			if bias {
				want += float64(extra[j])
			}
			if o.Mode == kernels.Add {
				want += float64(c[i*n+j])
			}
			if math.Abs(float64(got[i*n+j])-want) > tol*(1+math.Abs(want)) {
				t.Fatalf("%s: row %d column %d is %v, want %v", fmt.Sprint(shape, o.TA, o.TB, o.Mode, typ, bias, pad), i, j, got[i*n+j], want)
			}
		}
	}
	for _, u := range []kernels.Tensor{x, y, z, wide, o.Bias} {
		kernels.Free(d, u.Buf)
	}
}

// numbers are random ones that the type has exactly.
func numbers(rng *rand.Rand, n int, typ dtype.Type) []float32 {
	v := make([]float32, n)
	for i := range v {
		if v[i] = float32(rng.NormFloat64()); typ == dtype.BF16 {
			v[i] = dtype.FromBF16(dtype.ToBF16(v[i]))
		}
	}
	return v
}
