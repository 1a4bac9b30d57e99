package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// The kernels of optimizers in plain Go, rounding by rounding. The conversions keep a compiler from fusing.

// lionStep follows the comment of Stream.Lion.
func lionStep(a *args) {
	w, m, g := a.operand(0), a.operand(1), a.operand(2)
	h := &a.f
	for i := range w {
		gi := float32(g[i] * h[0])
		c := float32(h[2]*m[i]) + float32(h[3]*gi)
		m[i] = float32(h[4]*m[i]) + float32(h[5]*gi)
		step := float32(0)
		switch {
		case c > 0:
			step = h[6]
		case c < 0:
			step = -h[6]
		}
		w[i] = float32(w[i]*h[1]) - step
	}
}

func sgdStep(a *args, w, g float32) float32 {
	return w - float32(a.f[2]*(float32(g*a.f[0])+float32(w*a.f[1])))
}

// momentumStep follows the comment of Stream.SGD.
func momentumStep(a *args) {
	w, m, g := a.operand(0), a.operand(1), a.operand(2)
	h := &a.f
	for i := range w {
		gi := float32(g[i]*h[0]) + float32(w[i]*h[1])
		m[i] = float32(h[3]*m[i]) + gi
		w[i] -= float32(h[2] * (float32(h[4]*gi) + float32(h[5]*m[i])))
	}
}

// sophiaStep follows the comment of Stream.Sophia.
func sophiaStep(a *args) {
	w, m, curve, g := a.operand(0), a.operand(1), a.operand(2), a.operand(3)
	h := &a.f
	for i := range w {
		m[i] = float32(h[2]*m[i]) + float32(h[3]*float32(g[i]*h[0]))
		t := atMostOne(magnitude(m[i]) / (float32(h[5]*curve[i]) + h[6]))
		step := float32(h[4] * t)
		if math.Signbit(float64(m[i])) {
			step = -step
		}
		w[i] = float32(w[i]*h[1]) - step
	}
}

func squared(a *args, x float32) float32 {
	x *= a.f[0]
	return float32(x*x) + a.f[1]
}

func magnitude(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// atMostOne is 1 for NaN too.
func atMostOne(x float32) float32 {
	if x < 1 {
		return x
	}
	return 1
}

// absMaxLanes passes over NaN.
func absMaxLanes(a *args) {
	for i, x := range a.operand(0) {
		if m := magnitude(x); m > a.acc[i%lanes] {
			a.acc[i%lanes] = m
		}
	}
}

// decodeBytes adds 0 so that no zero is negative.
func decodeBytes(a *args) {
	code, table := a.bytes(1, a.n), a.floats(2, 256)
	for i, z := 0, a.operand(0); i < len(z); i++ {
		z[i] = float32(table[code[i]]*a.f[0]) + 0
	}
}

func encodeBytes(a *args) {
	code, x := a.bytes(0, a.n), a.operand(1)
	for i, v := range x {
		code[i] = uint8(a.rank(v / a.f[0]))
	}
}

// encodeSignedBytes: code 127 is 0, with 128 codes above and 127 below it.
func encodeSignedBytes(a *args) {
	code, x := a.bytes(0, a.n), a.operand(1)
	for i, v := range x {
		y := v / a.f[0]
		k := a.rank(y)
		if math.Signbit(float64(y)) {
			k = -min(k, 127)
		}
		code[i] = uint8(127 + min(k, 128))
	}
}

// rank is how many codes lie below that of |y|: the cell of y begins with one, and the next begins behind its upper end.
func (a *args) rank(y float32) int {
	y = atMostOne(magnitude(y))
	cell := max(0, int(math.Float32bits(y)>>16)-dtype.DynamicFirstCell)
	k := int(a.bytes(2, dtype.DynamicCells)[cell])
	if y > a.floats(3, 256)[k] {
		k++
	}
	return k
}
