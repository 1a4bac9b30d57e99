package dtype

import (
	"math"
	"testing"
)

// TestHalfPatterns: every 16 bit pattern survives, and the float32 numbers around the middle between two patterns round
// to the nearest, ties to even.
func TestHalfPatterns(t *testing.T) {
	for name, f := range map[string]struct {
		to   func(float32) uint16
		from func(uint16) float32
		inf  uint16
	}{"bf16": {ToBF16, FromBF16, 0x7f80}, "f16": {ToF16, FromF16, 0x7c00}} {
		for p := range 1 << 16 {
			h := uint16(p)
			x := f.from(h)
			if x != x {
				if back := f.from(f.to(x)); back == back {
					t.Fatalf("%s %04x is NaN and comes back as %v", name, h, back)
				}
				continue
			}
			if f.to(x) != h {
				t.Fatalf("%s %04x is %v and comes back as %04x", name, h, x, f.to(x))
			}
			if mag := h & 0x7fff; mag < f.inf-1 {
				checkBetween(t, name, f.to, h, float64(x), float64(f.from(h+1)))
			}
		}
		big := math.Nextafter32(f.from(f.inf-1), float32(math.Inf(1)))
		if f.to(big) != f.inf-1 || f.to(math.MaxFloat32) != f.inf || f.to(-math.MaxFloat32) != f.inf|0x8000 {
			t.Errorf("%s: the end of the range rounds wrongly", name)
		}
	}
}

// checkBetween rounds the middle of two neighbours lo and hi (patterns h and h+1) and the numbers beside it.
func checkBetween(t *testing.T, name string, to func(float32) uint16, h uint16, lo, hi float64) {
	t.Helper()
	mid := float32((lo + hi) / 2) // exact: float32 has more bits
	even := h + h&1
	away := float32(math.Inf(1))
	if hi < lo {
		away = -away
	}
	if to(mid) != even || to(math.Nextafter32(mid, away)) != h+1 || to(math.Nextafter32(mid, -away)) != h {
		t.Fatalf("%s %04x: numbers around %v round to %04x %04x %04x", name, h, mid, to(math.Nextafter32(mid, -away)), to(mid), to(math.Nextafter32(mid, away)))
	}
}

func TestSizes(t *testing.T) {
	for typ, want := range map[Type]int{F32: 28, BF16: 14, F16: 14, I8: 7, NF4: 4, I32: 28, F64: 56} {
		if got := typ.Bytes(7); got != want {
			t.Errorf("7 elements of %v have %d bytes, want %d", typ, got, want)
		}
	}
	if Type(7).Valid() || Type(7).String() != "dtype?" {
		t.Error("type 7 does not exist")
	}
}

func TestEncodeDecode(t *testing.T) {
	x := []float32{0, 1, -2.5, 0.1, 65504, float32(math.Inf(-1))}
	for _, typ := range []Type{F32, BF16, F16, F64} {
		b, back := make([]byte, typ.Bytes(len(x))), make([]float32, len(x))
		if err := Encode(b, typ, x); err != nil {
			t.Fatal(err)
		}
		if err := Decode(back, typ, b); err != nil {
			t.Fatal(err)
		}
		for i, v := range x {
			if d := math.Abs(float64(back[i] - v)); back[i] != v && d > math.Abs(float64(v))/200 {
				t.Errorf("%v: %v comes back as %v", typ, v, back[i])
			}
		}
		if Decode(back, typ, b[1:]) == nil || Encode(b, typ, x[1:]) == nil {
			t.Errorf("%v: wrong lengths were taken", typ)
		}
	}
	if Decode(x, NF4, make([]byte, 3)) == nil || Encode(make([]byte, 6), I8, x) == nil || Encode(make([]byte, 24), I32, x) == nil {
		t.Error("a type that needs scales was taken")
	}
}

func TestQuantRefuses(t *testing.T) {
	x, q, m := make([]float32, 5), make([]int8, 5), make([]float32, 2)
	if err := QuantizeI8(q, m, x, 4); err != nil {
		t.Errorf("zeros: %v", err)
	}
	x[4] = float32(math.NaN())
	for name, err := range map[string]error{
		"NaN": QuantizeI8(q, m, x, 4), "no block": QuantizeI8(q, m, x, 0), "scales": DequantizeI8(x, q, m[:1], 4),
		"codes": DequantizeNF4(x, make([]byte, 2), m, 4), "nf4 NaN": QuantizeNF4(make([]byte, 3), m, x, 4),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
