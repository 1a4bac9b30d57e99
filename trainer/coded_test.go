package trainer

import (
	"math/rand/v2"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/layout"
)

// TestCoded: what comes out of a device in coded form is what the codec makes of each chunk, and to code it again changes
// nothing but the last bit of a scale. There are more chunks than go out at a time, and one that is too long for it.
func TestCoded(t *testing.T) {
	dev, err := cpu.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	var chunks []layout.Chunk
	n := 0
	for _, size := range []int{5, 1, 300, layout.MaxChunk, layout.MaxChunk, 777, 131, 9 << 20, 40} {
		chunks = append(chunks, layout.Chunk{Lo: n, Hi: n + size})
		n += size
	}
	second := layout.Chunk{Lo: n, Hi: n + 10} // of the curvature: not of this tensor
	x := make([]float32, n)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range x {
		x[i] = rng.Float32() - 0.5
	}
	g, err := kernels.Alloc(dev, dtype.F32, 1, n)
	if err != nil {
		t.Fatal(err)
	}
	s := kernels.NewStream(dev)
	s.Upload(g, x)
	for _, form := range []dtype.Wire{dtype.WireBF16, dtype.WireInt8} {
		c, err := newCoded(dev, form)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, n)
		if err := c.download(s, got, g, append(chunks, second)); err != nil {
			t.Fatal(err)
		}
		for _, ch := range chunks[:7] {
			once, twice := make([]byte, form.Bytes(ch.Len())), make([]byte, form.Bytes(ch.Len()))
			want := make([]float32, ch.Len())
			form.Encode(once, x[ch.Lo:ch.Hi])
			form.Decode(want, once)
			for i, v := range want {
				if got[ch.Lo+i] != v {
					t.Fatalf("form %d: element %d is %v, want %v", form, ch.Lo+i, got[ch.Lo+i], v)
				}
			}
			form.Encode(twice, got[ch.Lo:ch.Hi])
			for i := range once {
				scale := form == dtype.WireInt8 && i%(dtype.WireBlock+4) == 0
				if d := int(once[i]) - int(twice[i]); d != 0 && !(scale && (d == 1 || d == -1)) {
					t.Fatalf("form %d: byte %d of chunk %v is %d the first time and %d the second", form, i, ch, once[i], twice[i])
				}
			}
		}
		c.close(dev)
	}
}
