package pipe

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

var aKey = Key{Job: record.CID([]byte("job")), Plan: record.CID([]byte("plan")), Round: 3, Attempt: 1}

// TestParts cuts frames of many lengths and puts them together again; numbers come back within what the codec promises.
func TestParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, codec := range []exact.Codec{exact.FP32, exact.BF16, exact.Int8} {
		for _, n := range []int{0, 1, 127, 128, 4096, span(codec), span(codec) + 1, 2*span(codec) + 77} {
			f := Frame{Key: aKey, Kind: Forward, Micro: 5, From: 2, Again: true, Data: make([]float32, n)}
			for i := range f.Data {
				f.Data[i] = float32(rng.NormFloat64())
			}
			got := make([]float32, n)
			for _, p := range parts(f, codec) {
				meta, err := p.meta()
				if err != nil {
					t.Fatal(err)
				}
				body, err := p.payload()
				if err != nil {
					t.Fatal(err)
				}
				q, err := decodePart(meta, len(body), n)
				if err != nil {
					t.Fatalf("%v, %d numbers: %v", codec, n, err)
				}
				if len(body) > 0 {
					q.Codec.Decode(got[q.At:q.At+q.len()], body)
				}
				if q.Micro != 5 || !q.Again || q.Key != aKey {
					t.Errorf("the part says %+v", q)
				}
			}
			for i := 0; i < n; i += 1 + n/1000 { // some of them: each asks for its block
				if d := math.Abs(float64(got[i] - f.Data[i])); d > allowed(codec, f.Data, i) {
					t.Fatalf("%v: number %d of %d is %v, was %v", codec, i, n, got[i], f.Data[i])
				}
			}
		}
	}
}

// allowed is the error that part promises.
func allowed(c exact.Codec, x []float32, i int) float64 {
	switch c {
	case exact.BF16:
		return math.Abs(float64(x[i])) / 256
	case exact.Int8:
		lo := i / exact.Block * exact.Block
		top := 0.0
		for _, v := range x[lo:min(lo+exact.Block, len(x))] {
			top = max(top, math.Abs(float64(v)))
		}
		return top / 253.9 // and a rounding
	}
	return 0
}

// TestControlFrames travel without numbers.
func TestControlFrames(t *testing.T) {
	names := []record.PeerID{"a", "b"}
	ask := parts(Frame{Key: aKey, Kind: Ask, Lost: names}, exact.BF16)
	body, err := ask[0].payload()
	if err != nil || len(ask) != 1 {
		t.Fatal(err)
	}
	if got, err := lost(body); err != nil || !slices.Equal(got, names) {
		t.Errorf("lost %v, %v", got, err)
	}
	meta, err := parts(Frame{Key: aKey, Kind: Answer, Has: true}, exact.BF16)[0].meta()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := decodePart(meta, 0, 0); err != nil || !p.Has {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := decodePart(meta, 1, 0); err == nil {
		t.Error("an answer with bytes is taken")
	}
}

// FuzzPart: whatever is decoded is bounded, and says the same when it is encoded again.
func FuzzPart(f *testing.F) {
	for _, p := range []part{
		{Frame: Frame{Key: aKey, Kind: Forward, Data: make([]float32, 9)}, Elems: 9},
		{Frame: Frame{Key: aKey, Kind: Backward, Pace: time.Second, Load: 4}, Codec: exact.Int8},
		{Frame: Frame{Key: aKey, Kind: Ask}}, {Frame: Frame{Key: aKey, Kind: Answer, Has: true}},
	} {
		b, err := p.meta()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, sizeOf(p.Codec, p.Elems))
	}
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		const limit = 1 << 20
		p, err := decodePart(b, size, limit)
		if err != nil {
			return
		}
		if p.Elems > limit || p.Kind <= Backward && (p.At+p.len() > p.Elems || size != sizeOf(p.Codec, p.len())) {
			t.Fatalf("%+v of %d bytes", p, size)
		}
		again, err := p.meta()
		if err != nil {
			t.Fatal(err)
		}
		if q, err := decodePart(again, size, limit); err != nil || q.Key != p.Key || q.At != p.At || q.Kind != p.Kind {
			t.Fatalf("%+v becomes %+v, %v", p, q, err)
		}
	})
}

// FuzzLost: names of lost members are bounded.
func FuzzLost(f *testing.F) {
	b, err := record.Encode([]record.PeerID{"x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if ids, err := lost(b); err == nil && len(ids) > maxLost {
			t.Fatal(len(ids))
		}
	})
}
