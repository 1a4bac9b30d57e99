package model

import "math"

// ropeScaling is rope_scaling, or rope_parameters of newer files.
type ropeScaling struct {
	RopeType *string  `json:"rope_type"`
	OldType  *string  `json:"type"`
	Theta    *float64 `json:"rope_theta"`
	Partial  *float64 `json:"partial_rotary_factor"`
	Factor   *float64 `json:"factor"`
	Original *float64 `json:"original_max_position_embeddings"`

	Low  *float64 `json:"low_freq_factor"` // llama3
	High *float64 `json:"high_freq_factor"`

	AttnFactor *float64 `json:"attention_factor"` // yarn, longrope
	BetaFast   *float64 `json:"beta_fast"`        // yarn
	BetaSlow   *float64 `json:"beta_slow"`
	MScale     *float64 `json:"mscale"`
	MScaleAll  *float64 `json:"mscale_all_dim"`
	Truncate   *bool    `json:"truncate"`

	Short []float64 `json:"short_factor"` // longrope
	Long  []float64 `json:"long_factor"`

	// Newer files of models whose layers rotate differently have one of these objects per type of layer.
	Full    *struct{} `json:"full_attention"`
	Sliding *struct{} `json:"sliding_attention"`
}

func (s *ropeScaling) kind() string {
	switch {
	case s == nil:
		return ""
	case s.RopeType != nil:
		return *s.RopeType
	case s.OldType != nil:
		return *s.OldType
	}
	return ""
}

// Rope names a rotation, for formats that have its parameters and not its frequencies.
type Rope struct {
	Theta   float64
	Scaling string  // empty, linear, llama3, yarn or longrope
	Factor  float64 // that it stretches by
	Context float64 // longest sequence before
	Usual   bool    // it has no other parameters than these, or their usual values
}

// rotation is a checked position encoding by rotation: the angle per position of each pair of a head is theta^(-2i/d)
// (Su et al. 2021, arXiv:2104.09864), stretched as scaling says.
type rotation struct {
	headDim int
	theta   float64
	scaling *ropeScaling // nil: none
	factor  float64      // of the scaling; ≥ 1 for those that lengthen a context
	context float64      // longest sequence before the scaling
}

func (r *rotation) named() Rope {
	n := Rope{Theta: r.theta, Scaling: r.scaling.kind(), Factor: r.factor, Context: r.context, Usual: true}
	switch n.Scaling {
	case "default":
		n.Scaling = ""
	case "su":
		n.Scaling = "longrope"
	}
	if s := r.scaling; s != nil {
		n.Usual = s.AttnFactor == nil && s.MScale == nil && s.MScaleAll == nil && *or(s.BetaFast, 32) == 32 &&
			*or(s.BetaSlow, 1) == 1 && *or(s.Truncate, true)
	}
	return n
}

// freqs are the angles per position, and the factor of what is rotated. Computed in float64, stored as float32.
func (r *rotation) freqs() ([]float32, float32) {
	f := make([]float32, r.headDim/2)
	for i := range f {
		f[i] = float32(r.scale(i, math.Pow(r.theta, -float64(2*i)/float64(r.headDim))))
	}
	return f, float32(r.attention())
}

// scale stretches the frequency of pair i.
func (r *rotation) scale(i int, freq float64) float64 {
	s := r.scaling
	switch s.kind() {
	case "linear":
		return freq / r.factor
	case "llama3":
		return r.llama3(freq)
	case "yarn":
		return r.yarn(i, freq)
	case "longrope", "su":
		return freq / s.Short[i]
	}
	return freq
}

// llama3 keeps short waves, divides long ones by the factor and blends those between (Llama 3.1's released code;
// Grattafiori et al. 2024, arXiv:2407.21783).
func (r *rotation) llama3(freq float64) float64 {
	turns := r.context * freq / (2 * math.Pi) // of this wave in the original context
	smooth := (turns - *r.scaling.Low) / (*r.scaling.High - *r.scaling.Low)
	smooth = min(max(smooth, 0), 1)
	return (1-smooth)*freq/r.factor + smooth*freq
}

// yarn keeps pairs that turn more than beta_fast times in the original context, divides those that turn less than
// beta_slow times by the factor, and blends linearly by the pair's number between ("NTK by parts": Peng et al. 2023,
// arXiv:2309.00071, section 3.2; the ends are rounded outwards, as in the paper's code).
func (r *rotation) yarn(i int, freq float64) float64 {
	low, high := r.pairOf(*or(r.scaling.BetaFast, 32)), r.pairOf(*or(r.scaling.BetaSlow, 1))
	if *or(r.scaling.Truncate, true) {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(r.headDim-1))
	if low == high {
		high += 0.001
	}
	ramp := min(max((float64(i)-low)/(high-low), 0), 1)
	return freq/r.factor*ramp + freq*(1-ramp)
}

// pairOf is the number of the pair, not rounded, that turns so many times in the original context.
func (r *rotation) pairOf(turns float64) float64 {
	return float64(r.headDim) * math.Log(r.context/(turns*2*math.Pi)) / (2 * math.Log(r.theta))
}

// attention is what rotated queries and keys are multiplied by.
func (r *rotation) attention() float64 {
	s := r.scaling
	switch kind := s.kind(); {
	case kind != "yarn" && kind != "longrope" && kind != "su":
		return 1
	case s.AttnFactor != nil:
		return *s.AttnFactor
	case kind != "yarn": // Ding et al. 2024 (arXiv:2402.13753), as released
		if r.factor <= 1 {
			return 1
		}
		return math.Sqrt(1 + math.Log(r.factor)/math.Log(r.context))
	case s.MScale != nil && s.MScaleAll != nil && *s.MScale != 0 && *s.MScaleAll != 0:
		return mscale(r.factor, *s.MScale) / mscale(r.factor, *s.MScaleAll)
	}
	return mscale(r.factor, 1)
}

// mscale is the square root of YaRN's temperature (arXiv:2309.00071, eq. 22).
func mscale(factor, weight float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*weight*math.Log(factor) + 1
}
