package exact

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// lengths around the widths of vectors and blocks.
var lengths = []int{0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 127, 128, 129, 255, 256, 1000, 4096 + 5}

func random(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * math.Exp(4*r.NormFloat64()))
	}
	return v
}

// The vector instructions give the bits of the plain loops.
func TestArithmeticIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range lengths {
		a, b := random(r, n), random(r, n)
		sum, quotient := make([]float32, n), make([]float32, n)
		var lane [16]float64
		for i := range a {
			sum[i] = a[i] + b[i]
			quotient[i] = float32(float64(a[i]) / 12345)
			lane[i%16] += float64(a[i]) * float64(a[i])
		}
		var s Squares
		k := n / 2 &^ 15
		s.Add(a[:k])
		s.Add(a[k:])
		if s.lane != lane || s.Sum() != (Squares{lane}).Sum() {
			t.Errorf("squares of %d elements differ", n)
		}
		got := make([]float32, n)
		if Divide(got, a, 12345); !slices.Equal(got, quotient) {
			t.Errorf("quotients of %d elements differ", n)
		}
		if Add(a, b); !slices.Equal(a, sum) {
			t.Errorf("sums of %d elements differ", n)
		}
		for i := range sum {
			sum[i] -= b[i]
		}
		if Subtract(a, b); !slices.Equal(a, sum) {
			t.Errorf("differences of %d elements differ", n)
		}
	}
}

// What is coded as a whole, by blocks and in plain Go is the same, and so is what comes back.
func TestInt8IsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range lengths {
		x := random(r, n)
		if n > 300 {
			x[5] = float32(math.NaN())
			x[140] = float32(math.Inf(-1))
			clear(x[256:300])
			x[299] = 1e-35
		}
		for i := range x {
			if i%97 == 3 {
				x[i] = float32(math.Copysign(0, -1))
			}
		}
		got, want := make([]byte, Int8.Size(n)), make([]byte, 0, Int8.Size(n))
		Int8.Encode(got, x)
		for lo := 0; lo < n; lo += Block {
			b := make([]byte, 4+min(Block, n-lo))
			encodeBlock(b, x[lo:min(lo+Block, n)])
			want = append(want, b...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("codes of %d elements differ", n)
		}
		y, z := make([]float32, n), random(r, n)
		Int8.Decode(y, got)
		sum := slices.Clone(z)
		Int8.Add(sum, got)
		for i := range y {
			block := got[i/Block*int8Block:]
			plain := float32(int8(block[4+i%Block])) * FP32.decodeOne(block)
			if !sameBits(y[i], plain) || !sameBits(sum[i], z[i]+plain) {
				t.Fatalf("element %d of %d comes back as %v, not %v", i, n, y[i], plain)
			}
		}
	}
}

// The same for bfloat16: special values, ties and both signs.
func TestBF16IsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 9))
	for _, n := range lengths {
		x, z := random(r, n), random(r, n)
		for i := range x {
			switch i % 11 {
			case 3:
				x[i] = math.Float32frombits(r.Uint32())
			case 5: // a tie
				x[i] = math.Float32frombits(r.Uint32()&0xffff0000 | 0x8000)
			case 7:
				x[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, float32(math.Copysign(0, -1))}[i%5]
			}
		}
		b := make([]byte, BF16.Size(n))
		BF16.Encode(b, x)
		y, sum := make([]float32, n), slices.Clone(z)
		BF16.Decode(y, b)
		BF16.Add(sum, b)
		for i := range x {
			code := binary.LittleEndian.Uint16(b[2*i:])
			plain := math.Float32frombits(uint32(code) << 16)
			if code != encoded16(x[i]) || !sameBits(y[i], plain) || !sameBits(sum[i], z[i]+plain) {
				t.Fatalf("element %d of %d: %v (%x) became %x, %v", i, n, x[i], math.Float32bits(x[i]), code, y[i])
			}
		}
	}
}

func (Codec) decodeOne(b []byte) float32 {
	v := make([]float32, 1)
	FP32.Decode(v, b)
	return v[0]
}

func sameBits(a, b float32) bool { return a == b || a != a && b != b }

func TestCodecErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	x := random(r, 1000)
	for c, bound := range map[Codec]func(lo, i int) float64{
		FP32: func(int, int) float64 { return 0 },
		BF16: func(_, i int) float64 { return math.Abs(float64(x[i])) / 256 },
		Int8: func(lo, _ int) float64 {
			var most float64
			for _, e := range x[lo:min(lo+Block, len(x))] {
				most = max(most, math.Abs(float64(e)))
			}
			return most / 253
		},
	} {
		b, y := make([]byte, c.Size(len(x))), make([]float32, len(x))
		c.Encode(b, x)
		c.Decode(y, b)
		for i := range x {
			if d := math.Abs(float64(x[i]) - float64(y[i])); d > bound(i/Block*Block, i) {
				t.Errorf("%v: element %d is %v, came back as %v", c, i, x[i], y[i])
			}
		}
		sum := make([]float32, len(x))
		if c.Add(sum, b); !slices.Equal(sum, y) {
			t.Errorf("%v: adding to zero is not decoding", c)
		}
		elements, bytes := c.Unit()
		for lo, at := 0, 0; lo < len(x); lo, at = lo+elements, at+bytes { // cut and coded apart
			part := make([]byte, c.Size(min(elements, len(x)-lo)))
			c.Encode(part, x[lo:min(lo+elements, len(x))])
			if !slices.Equal(part, b[at:at+len(part)]) {
				t.Fatalf("%v: coded apart, the part at %d differs", c, lo)
			}
		}
		if p, err := Parse(c.String()); p != c || err != nil {
			t.Error(p, err)
		}
	}
	if _, err := Parse("fp64"); err == nil || Codec(3).Valid() {
		t.Error("an unknown codec was found")
	}
}

func BenchmarkKernels(b *testing.B) {
	x, y := random(rand.New(rand.NewPCG(7, 8)), 1<<18), make([]float32, 1<<18)
	code := make([]byte, Int8.Size(len(x)))
	half := make([]byte, BF16.Size(len(x)))
	var s Squares
	for _, k := range []struct {
		name string
		run  func()
	}{
		{"add", func() { Add(y, x) }}, {"squares", func() { s.Add(x) }}, {"divide", func() { Divide(y, x, 77) }},
		{"encode8", func() { Int8.Encode(code, x) }}, {"decode8", func() { Int8.Decode(y, code) }}, {"stream8", func() { Int8.Stream(y, code) }}, {"add8", func() { Int8.Add(y, code) }},
		{"encode16", func() { BF16.Encode(half, x) }}, {"decode16", func() { BF16.Decode(y, half) }}, {"add16", func() { BF16.Add(y, half) }},
	} {
		b.Run(fmt.Sprint(k.name), func(b *testing.B) {
			b.SetBytes(4 << 18)
			for b.Loop() {
				k.run()
			}
		})
	}
}
