package collective

import (
	"crypto/sha256"
	"math"

	"github.com/zeebo/blake3"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// tile is the number of elements that are added up at a time, so that they stay in the processor's first cache.
const tile = 32 * exact.Block

// SumSq is Σ x² in the order of exact.Squares.
func SumSq(x []float32) float64 {
	var s exact.Squares
	s.Add(x)
	return s.Sum()
}

// slice is a chunk of a piece: numbers, or bytes in the plan's codec.
type slice struct {
	data []float32 // the numbers; with wire, the memory behind it if that is to be given back
	wire []byte
}

// adder sums slices of one length, tile by tile.
type adder struct {
	codec   exact.Codec
	scratch []byte // a tile in the codec
}

// sum fills dst with the sum of srcs in their order, and returns Σ dst². In a codec a slice of numbers counts as what it
// would be after its way over the network, so that every member adds the same.
func (a *adder) sum(dst []float32, srcs []slice) float64 {
	var sq exact.Squares
	if len(srcs) == 0 {
		clear(dst)
	}
	for lo := 0; lo < len(dst); lo += tile {
		hi := min(lo+tile, len(dst))
		for i, s := range srcs {
			switch {
			case a.codec != exact.FP32:
				a.add(dst[lo:hi], s, lo, i == 0)
			case i == 1:
				exact.AddTo(dst[lo:hi], srcs[0].data[lo:hi], s.data[lo:hi])
			case i > 1:
				exact.Add(dst[lo:hi], s.data[lo:hi])
			case len(srcs) == 1:
				copy(dst[lo:hi], s.data[lo:hi])
			}
		}
		sq.Add(dst[lo:hi])
	}
	return sq.Sum()
}

// add adds the elements of s from lo on to dst, or sets them there, through the codec.
func (a *adder) add(dst []float32, s slice, lo int, set bool) {
	var wire []byte
	if s.wire != nil {
		wire = s.wire[a.codec.Size(lo):]
	} else {
		if a.scratch == nil {
			a.scratch = make([]byte, a.codec.Size(tile))
		}
		wire = a.scratch
		a.codec.Encode(wire[:a.codec.Size(len(dst))], s.data[lo:lo+len(dst)])
	}
	if set {
		a.codec.Decode(dst, wire)
	} else {
		a.codec.Add(dst, wire)
	}
}

// coded is v in a codec; for fp32 on a little-endian machine its own memory.
func coded(c exact.Codec, v []float32) []byte {
	if c == exact.FP32 {
		return littleEndian(v)
	}
	b := make([]byte, c.Size(len(v)))
	c.Encode(b, v)
	return b
}

// hashChunk is the hash of v as it travels.
func hashChunk(c exact.Codec, v []float32) Hash { return hashBytes(coded(c, v)) }

// hashBytes is the hash of a chunk: BLAKE3, which is read by the tree and so takes less than half of SHA-256's time, even where
// that has instructions of its own.
func hashBytes(b []byte) Hash { return blake3.Sum256(b) }

// Units is the hashes of a vector as members acknowledge it, for those who check them: one per unit, of what travels in
// fp32.
func Units(chunks []Chunk, v []float32) []Hash {
	hs := make([]Hash, len(chunks))
	for i, c := range chunks {
		hs[i] = hashChunk(exact.FP32, v[c.Lo:c.Hi])
	}
	return hashUnits(chunks, hs)
}

// hashUnits folds the hashes of chunks into one per unit, in chunk order.
func hashUnits(chunks []Chunk, hs []Hash) []Hash {
	var units []Hash
	for lo := 0; lo < len(chunks); {
		h := sha256.New()
		hi := lo
		for ; hi < len(chunks) && chunks[hi].Unit == chunks[lo].Unit; hi++ {
			h.Write(hs[hi][:])
		}
		units = append(units, Hash(h.Sum(nil)))
		lo = hi
	}
	return units
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
