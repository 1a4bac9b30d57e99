package model

import "math"

// ropeFreqs are the angles per position of each pair of a head: theta^(-2i/d) (Su et al. 2021, arXiv:2104.09864),
// scaled as config.json asks. Computed in float64, stored as float32.
func ropeFreqs(headDim int, theta float64, s *ropeScaling) []float32 {
	f := make([]float32, headDim/2)
	for i := range f {
		f[i] = float32(s.scale(math.Pow(theta, -float64(2*i)/float64(headDim))))
	}
	return f
}

// scale stretches one frequency.
func (s *ropeScaling) scale(freq float64) float64 {
	switch s.kind() {
	case "linear":
		return freq / *s.Factor
	case "llama3":
		return s.llama3(freq)
	}
	return freq
}

// llama3 keeps short waves, divides long ones by the factor and blends those between (Llama 3.1's released code;
// Grattafiori et al. 2024, arXiv:2407.21783).
func (s *ropeScaling) llama3(freq float64) float64 {
	turns := *s.Original * freq / (2 * math.Pi) // of this wave in the original context
	smooth := (turns - *s.Low) / (*s.High - *s.Low)
	smooth = min(max(smooth, 0), 1)
	return (1-smooth)*freq / *s.Factor + smooth*freq
}
