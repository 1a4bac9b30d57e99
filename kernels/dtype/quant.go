package dtype

import (
	"fmt"
	"math"
	"slices"
)

// Quantized storage scales blocks of elements, counted row by row, by the largest magnitude in each. The last block
// may be short. A block of zeros has scale 0 and decodes to zeros.

// nf4Levels are the 16 quantiles of a normal distribution, scaled to [-1, 1], of Dettmers et al. 2023
// (arXiv:2305.14314), appendix E.
var nf4Levels = [16]float32{-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
	-0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
	0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1}

// NF4Levels are the numbers that the codes stand for, before they are multiplied by the block's absmax.
func NF4Levels() [16]float32 { return nf4Levels }

const nf4Zero = 7 // the code of 0

// Blocks is how many scales n elements have.
func Blocks(n, block int) int { return (n + block - 1) / block }

// QuantizeI8 stores x as q = round(x·127/absmax) with one absmax per block.
func QuantizeI8(q []int8, absmax, x []float32, block int) error {
	if err := checkBlocks(len(q), len(x), len(absmax), block); err != nil {
		return err
	}
	return eachBlock(x, absmax, block, func(lo int, x []float32, m float32) {
		f := float32(0)
		if m > 0 {
			f = 127 / m
		}
		for i, v := range x {
			q[lo+i] = int8(max(-127, min(127, math.RoundToEven(float64(float32(v*f))))))
		}
	})
}

// DequantizeI8 is x = q·(absmax/127).
func DequantizeI8(x []float32, q []int8, absmax []float32, block int) error {
	if err := checkBlocks(len(q), len(x), len(absmax), block); err != nil {
		return err
	}
	for i, v := range q {
		x[i] = float32(v) * float32(absmax[i/block]/127)
	}
	return nil
}

// QuantizeNF4 stores x as the code of the level nearest to x/absmax, two codes to a byte with the first in the high
// half. A value in the middle takes the lower level; an odd tail is filled with the code of 0.
func QuantizeNF4(packed []byte, absmax, x []float32, block int) error {
	if err := checkBlocks(2*len(packed)-len(x)%2, len(x), len(absmax), block); err != nil {
		return err
	}
	clear(packed)
	if len(x)%2 == 1 {
		packed[len(packed)-1] = nf4Zero
	}
	return eachBlock(x, absmax, block, func(lo int, x []float32, m float32) {
		f := float32(0)
		if m > 0 {
			f = 1 / m
		}
		for i, v := range x {
			packed[(lo+i)/2] |= nf4Code(v*f) << (4 * (1 - (lo+i)%2))
		}
	})
}

// nf4Code is the nearest level's code.
func nf4Code(v float32) byte {
	for c := range byte(15) {
		if mid := (nf4Levels[c] + nf4Levels[c+1]) / 2; v <= mid {
			return c
		}
	}
	return 15
}

// DequantizeNF4 is x = level·absmax.
func DequantizeNF4(x []float32, packed []byte, absmax []float32, block int) error {
	if err := checkBlocks(2*len(packed)-len(x)%2, len(x), len(absmax), block); err != nil {
		return err
	}
	for i := range x {
		x[i] = nf4Levels[packed[i/2]>>(4*(1-i%2))&15] * absmax[i/block]
	}
	return nil
}

func checkBlocks(codes, n, scales, block int) error {
	if block <= 0 || codes != n || scales != Blocks(n, block) {
		return fmt.Errorf("%d codes and %d scales for %d elements in blocks of %d", codes, scales, n, block)
	}
	return nil
}

// eachBlock calls f with every block, where it starts, and its scale, which it also stores. Numbers that are not
// finite have no scale.
func eachBlock(x, absmax []float32, block int, f func(lo int, x []float32, m float32)) error {
	for b := range absmax {
		lo := b * block
		part := x[lo:min(len(x), lo+block)]
		m := max(slices.Max(part), -slices.Min(part))
		if m != m || math.IsInf(float64(m), 0) {
			return fmt.Errorf("block %d holds a number that is not finite", b)
		}
		absmax[b] = m
		f(lo, part, m)
	}
	return nil
}
