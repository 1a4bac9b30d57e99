package dtype

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDynamicCells: the tables that encoders read say the same as a search among all codes.
func TestDynamicCells(t *testing.T) {
	for _, signed := range []bool{true, false} {
		d := NewDynamic(signed)
		for cell := range DynamicCells {
			for _, low := range []uint32{0, 1, 0x8000, 0xffff} {
				bits := uint32(cell+DynamicFirstCell)<<16 + low
				y := math.Float32frombits(bits)
				if cell == 0 {
					y = math.Float32frombits(uint32(DynamicFirstCell) << 16 * low / 0xffff)
				}
				if y > 1 {
					continue
				}
				k := int(d.First[cell])
				if y > d.Upper[k] {
					k++
				}
				if signed {
					k += 127
				}
				if want := d.Code(y); uint8(k) != want {
					t.Fatalf("signed %v: %v has code %d in cell %d, want %d", signed, y, k, cell, want)
				}
			}
		}
		for c, v := range d.Values {
			if d.Code(v) != uint8(c) {
				t.Errorf("signed %v: code %d stands for %v, whose code is %d", signed, c, v, d.Code(v))
			}
			if c > 0 && d.Values[c-1] >= v {
				t.Errorf("signed %v: codes %d and %d do not rise", signed, c-1, c)
			}
		}
	}
}

// TestDynamicReference: values, codes and decoded numbers are those of the reference. It takes the magnitude for the
// scale, so blocks whose largest number is negative are compared with their signs turned.
func TestDynamicReference(t *testing.T) {
	ref := reference(t)
	for name, signed := range map[string]bool{"dynamic_code_signed": true, "dynamic_code_unsigned": false} {
		for i, v := range floats(ref(name)) {
			if d := NewDynamic(signed); math.Abs(float64(d.Values[i]-v)) > 2e-7*math.Abs(float64(v)) {
				t.Errorf("%s: code %d stands for %v, want %v", name, i, d.Values[i], v)
			}
		}
	}
	d := NewDynamic(true)
	for _, name := range []string{"x", "x_tail"} {
		x, q, dq, m := floats(ref(name)), ref(name+".dyn8_b256.q"), floats(ref(name+".dyn8_b256.dequant")), floats(ref(name+".dyn8_b256.absmax"))
		for i, v := range x {
			if m[i/256] == 0 {
				continue
			}
			c := d.Code(v / m[i/256])
			if c != q[i] || math.Abs(float64(d.Values[c]*m[i/256]-dq[i])) > 3e-7*math.Abs(float64(dq[i])) {
				t.Fatalf("%s: element %d, %v, has code %d and decodes to %v; want %d, %v", name, i, v, c, d.Values[c]*m[i/256], q[i], dq[i])
			}
		}
	}
}

// TestDynamicAgain: what was decoded encodes to the same numbers, down to the smallest.
func TestDynamicAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, signed := range []bool{true, false} {
		d := NewDynamic(signed)
		for trial := range 300 {
			x := make([]float32, DynamicBlock)
			size := math.Pow(10, -44.5+float64(trial)/4)
			for i := range x {
				x[i] = float32(size * r.NormFloat64() * math.Exp(4*r.NormFloat64()))
				if !signed && x[i] < 0 {
					x[i] = -x[i]
				}
			}
			once := recode(d, x)
			again := recode(d, once)
			for i := range x {
				if math.Float32bits(once[i]) != math.Float32bits(again[i]) {
					t.Fatalf("signed %v, scale %v: %v decodes to %v and then to %v", signed, d.Scale(x), x[i], once[i], again[i])
				}
				if !signed && x[i] > 0 && d.Scale(x) > 1e-30 && once[i] == 0 {
					t.Fatalf("%v became 0", x[i])
				}
			}
		}
	}
}

// recode stores and reads again; no zero is negative.
func recode(d *Dynamic, x []float32) []float32 {
	out, s := make([]float32, len(x)), d.Scale(x)
	for i, v := range x {
		if s != 0 {
			out[i] = float32(d.Values[d.Code(v/s)]*s) + 0
		}
	}
	return out
}
