package objective

import "math"

// Draw takes a token from softmax(logits) by where u in [0, 1) falls in its running sum, in float64 and in order.
func Draw(logits []float32, u float64) int32 {
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, float64(v))
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	at, last := u*sum, int32(0)
	for i, v := range logits {
		p := math.Exp(float64(v) - top)
		if at -= p; p > 0 {
			if last = int32(i); at < 0 {
				break
			}
		}
	}
	return last
}

// Uniform is a number in [0, 1) that counters alone determine: whoever computes a token of a sample in a step draws the
// same.
func Uniform(seed, step uint64, key, token int32) float64 {
	h := mix(mix(mix(seed+step) ^ uint64(uint32(key))<<32 ^ uint64(uint32(token))))
	return float64(h>>11) / (1 << 53)
}

// mix is the finalizer of splitmix64 (Steele, Lea and Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
