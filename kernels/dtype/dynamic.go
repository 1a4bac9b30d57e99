package dtype

import (
	"math"
	"slices"
	"sort"
)

// DynamicBlock is how many elements share a scale in the dynamic 8 bit form.
const DynamicBlock = 256

// Dynamic is the dynamic 8 bit form of Dettmers et al. 2022 (arXiv:2110.02861), section 1.3: codes in rising order of
// what they stand for, seven decades with ever more steps, 0, and 1 at the top. A number is stored as the code nearest
// to its quotient with the block's scale; in the middle between two the smaller in magnitude.
//
// Two things differ from the paper's software, so that what was decoded encodes to itself. The scale of a block that
// takes both signs is the element of largest magnitude with its sign (the positive one of two), because 1 has a code
// and -1 has none. And without signs nothing but 0 becomes 0: it stands under a root in a denominator.
type Dynamic struct {
	Values [256]float32 // what a code stands for
	Signed bool
	// How encoders find a code. Magnitudes of quotients are cut into cells by the upper 16 bits of their float32, the
	// first cell being that of 2⁻²³ and everything below; First is how many codes lie between 0 and the start of a
	// cell, and Upper up to where the code that many above 0 reaches. A cell holds one such border at most. Both are
	// longer than needed so that vectors may read over the end.
	First [DynamicCells + 7]uint8
	Upper [256]float32
}

// The cells of Dynamic.First, up to that of 1.
const (
	DynamicFirstCell = (127 - 23) << 7
	DynamicCells     = 23<<7 + 1
)

// NewDynamic makes the tables for numbers of both signs, or without.
func NewDynamic(signed bool) *Dynamic {
	d := &Dynamic{Signed: signed}
	up := magnitudes(signed) // 0 first
	i := 0
	if signed {
		for k := len(up) - 2; k > 0; k-- { // all but 1 also below 0
			d.Values[i] = -up[k]
			i++
		}
	}
	copy(d.Values[i:], up)
	for k := range up {
		d.Upper[k] = float32(math.Inf(1))
		if k+1 < len(up) {
			d.Upper[k] = (up[k] + up[k+1]) / 2
		}
	}
	if !signed {
		d.Upper[0] = 0
	}
	for cell := range DynamicCells {
		start := math.Float32frombits(uint32(cell+DynamicFirstCell) << 16)
		if cell == 0 {
			start = 0
		}
		d.First[cell] = uint8(sort.Search(len(up)-1, func(k int) bool { return start <= d.Upper[k] }))
	}
	return d
}

// magnitudes are the values from 0 to 1. Decade i, from 10⁻⁷⁺ⁱ to 10⁻⁶⁺ⁱ, has 2ⁱ values, or 2ⁱ⁺¹ without signs: the
// middles of as many equal parts.
func magnitudes(signed bool) []float32 {
	out := []float32{0, 1}
	for i := range 7 {
		parts := 2 << i
		if signed {
			parts = 1 << i
		}
		for j := range parts {
			middle := 0.1 + 0.9*(2*float64(j)+1)/float64(2*parts)
			out = append(out, float32(middle*math.Pow10(i-6)))
		}
	}
	slices.Sort(out)
	return out
}

// Scale is the scale of a block; 0 of zeros.
func (d *Dynamic) Scale(x []float32) float32 {
	if len(x) == 0 {
		return 0
	}
	hi, lo := slices.Max(x), slices.Min(x)
	if -lo > hi {
		return lo
	}
	return hi
}

// Code is the code of the quotient y, whose magnitude is at most 1.
func (d *Dynamic) Code(y float32) uint8 {
	m := y
	if y < 0 {
		m = -y
	}
	k := sort.Search(255, func(k int) bool { return m <= d.Upper[k] })
	switch {
	case !d.Signed:
		return uint8(k)
	case y < 0:
		return uint8(127 - min(k, 127))
	}
	return uint8(127 + min(k, 128))
}
