package exact

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Quotients are those of the division, where they are near the middle of two float32 and where they are tiny, too.
func TestDivideNearTies(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, w := range []int64{1, 2, 3, 5, 7, 77, 255, 4096, 12345, 1<<24 - 1, 1<<24 + 1, 1<<40 - 87, 1 << 56, 1<<60 + 1, 1<<62 + 3} {
		v := []float32{0, float32(math.Copysign(0, -1)), 1e-40, -1e-45, math.MaxFloat32, -math.MaxFloat32, float32(math.Inf(1)), float32(math.NaN()),
			0x1p-60, -0x1p-61, 0x1p-59, 0x1p-126}
		for range 20_000 {
			even := math.Float32frombits(r.Uint32()&0x3fffffff | 0x20000000)
			tie := (float64(even) + float64(math.Nextafter32(even, math.MaxFloat32))) / 2
			s := float32(tie * float64(w))
			v = append(v, s, math.Nextafter32(s, 0), math.Nextafter32(s, math.MaxFloat32), -s, math.Float32frombits(r.Uint32()))
		}
		got := make([]float32, len(v))
		Divide(got, v, w)
		for i, x := range v {
			if want := float32(float64(x) / float64(w)); !sameBits(got[i], want) || math.Signbit(float64(got[i])) != math.Signbit(float64(want)) {
				t.Fatalf("%v / %d is %v, want %v", x, w, got[i], want)
			}
		}
	}
}

// What is decoded past the caches is what is decoded through them.
func TestStream(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, c := range []Codec{FP32, BF16, Int8} {
		for _, n := range []int{1, 127, 128, 1000, 4096 + 5} {
			for _, off := range []int{0, 1, 8} {
				b := make([]byte, c.Size(n))
				c.Encode(b, random(r, n))
				want, got := make([]float32, n), make([]float32, n+off)[off:]
				c.Decode(want, b)
				c.Stream(got, b)
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("%v: element %d of %d is %v, want %v", c, i, n, got[i], want[i])
					}
				}
			}
		}
	}
}
