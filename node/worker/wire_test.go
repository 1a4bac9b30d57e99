package worker

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// TestDevicesCodeAsPeersDo: what a device makes of a gradient (kernels/dtype, with which the conformance suite holds every
// device) has the bytes of the codecs between peers.
func TestDevicesCodeAsPeersDo(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct {
		form  dtype.Wire
		codec exact.Codec
	}{{dtype.WireBF16, exact.BF16}, {dtype.WireInt8, exact.Int8}} {
		for n := range 700 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(r.NormFloat64() * math.Exp(20*r.NormFloat64()))
				switch r.IntN(400) {
				case 0:
					x[i] = math.Float32frombits(r.Uint32()) // also NaN, infinities and denormals
				case 1:
					x[i] = float32(math.Inf(-1))
				case 2:
					x[i] = float32(math.NaN())
				}
			}
			got, want := make([]byte, c.form.Bytes(n)), make([]byte, c.codec.Size(n))
			c.form.Encode(got, x)
			c.codec.Encode(want, x)
			if !bytes.Equal(got, want) {
				t.Fatalf("%v: %d elements are coded differently", c.codec, n)
			}
			back, peers := make([]float32, n), make([]float32, n)
			c.form.Decode(back, got)
			c.codec.Decode(peers, want)
			for i := range back {
				if a, b := back[i], peers[i]; math.Float32bits(a) != math.Float32bits(b) && (a == a || b == b) {
					t.Fatalf("%v: element %d of %d comes back as %v and %v", c.codec, i, n, a, b)
				}
			}
		}
	}
}
