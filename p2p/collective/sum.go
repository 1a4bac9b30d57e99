package collective

import (
	"crypto/sha256"
	"math"
)

// SumSq is Σ x² in float64, in an order that every backend keeps: element i goes to lane i mod 16, each lane adds the
// exact squares of its elements in ascending order, and the lanes fold as a tree, lane j taking lane j+8, then j+4, j+2
// and j+1. A square of a float32 is exact in float64, so a fused multiply-add gives the same bits.
func SumSq(x []float32) float64 {
	var l [16]float64
	for ; len(x) >= 16; x = x[16:] {
		for j, e := range x[:16:16] {
			l[j] += float64(e) * float64(e)
		}
	}
	for j, e := range x {
		l[j] += float64(e) * float64(e)
	}
	for w := 8; w > 0; w /= 2 {
		for j := range w {
			l[j] += l[j+w]
		}
	}
	return l[0]
}

// addTo does dst += src, each addition rounded once to float32.
func addTo(dst, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}

// divide does dst = sum / weight: the quotient in float64, then rounded to float32.
func divide(dst, sum []float32, weight int64) {
	w := float64(weight)
	sum = sum[:len(dst)]
	for i := range dst {
		dst[i] = float32(float64(sum[i]) / w)
	}
}

// hashChunk is the hash of v as little-endian bytes.
func hashChunk(v []float32) Hash { return sha256.Sum256(littleEndian(v)) }

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
