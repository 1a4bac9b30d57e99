package model

// rope takes rope_theta and the scaling from where the file has them.
func (p *parser) rope() {
	s, theta := p.raw.Scaling, p.raw.Theta
	if n := p.raw.RopeParams; n != nil {
		s = n
		if n.Theta != nil {
			theta = n.Theta
		}
	}
	r := &rotation{headDim: p.c.HeadDim, theta: *or(theta, 10000), scaling: s, context: float64(p.c.MaxPos)}
	if !(r.theta > 1 && r.theta < 1e30) {
		p.fail("rope_theta: %v is not a number above 1", r.theta)
	}
	p.scaling(r)
	if p.err == nil {
		p.c.Freq, p.c.RopeScale = r.freqs()
		p.c.Rope = r.named()
	}
}

// scaling checks and completes a scaling, or names what it lacks.
func (p *parser) scaling(r *rotation) {
	s := r.scaling
	switch {
	case s == nil:
		return
	case s.Full != nil || s.Sliding != nil:
		p.fail("rope_parameters: rotations that differ between types of layers are not supported")
		return
	case s.Partial != nil && *s.Partial != 1:
		p.fail("partial_rotary_factor: %v is not supported", *s.Partial)
		return
	}
	switch s.kind() {
	case "", "default":
	case "linear":
		r.factor = p.positive("rope_scaling.factor", s.Factor)
	case "llama3":
		r.factor = p.positive("rope_scaling.factor", s.Factor)
		low := p.positive("rope_scaling.low_freq_factor", s.Low)
		high := p.positive("rope_scaling.high_freq_factor", s.High)
		r.context = p.positive("rope_scaling.original_max_position_embeddings", s.Original)
		if p.err == nil && high <= low {
			p.fail("rope_scaling.high_freq_factor: %v is not above low_freq_factor %v", high, low)
		}
	case "yarn":
		p.yarn(r)
	case "longrope", "su":
		p.longrope(r)
	default:
		p.fail("rope_scaling.rope_type: %.40q is not supported (default, linear, llama3, yarn, longrope)", s.kind())
	}
}

// yarn checks a YaRN scaling. The original context is the model's own where the file does not say another.
func (p *parser) yarn(r *rotation) {
	s := r.scaling
	r.factor = p.positive("rope_scaling.factor", s.Factor)
	r.context = p.positive("rope_scaling.original_max_position_embeddings", or(s.Original, r.context))
	fast := p.positive("rope_scaling.beta_fast", or(s.BetaFast, 32))
	slow := p.positive("rope_scaling.beta_slow", or(s.BetaSlow, 1))
	if p.err == nil && fast <= slow {
		p.fail("rope_scaling.beta_fast: %v is not above beta_slow %v", fast, slow)
	}
	for key, v := range map[string]*float64{"attention_factor": s.AttnFactor, "mscale": s.MScale, "mscale_all_dim": s.MScaleAll} {
		if v != nil && !(*v >= 0 && *v < 1e6) {
			p.fail("rope_scaling.%s: %v is not a factor", key, *v)
		}
	}
}

// longrope takes the short half of a LongRoPE scaling, which holds up to the original context: the model's limit becomes
// that. Beyond it every key of a sequence would have to be rotated anew, which nobody asks of fine-tuning.
func (p *parser) longrope(r *rotation) {
	s := r.scaling
	r.context = p.positive("original_max_position_embeddings", or(p.raw.Original, *or(s.Original, 0)))
	if r.context >= 2 && r.context <= maxPositions {
		r.factor = *or(s.Factor, float64(p.c.MaxPos)/r.context)
		p.c.MaxPos = min(p.c.MaxPos, int(r.context))
	} else {
		p.fail("original_max_position_embeddings: %v is outside 2 to %d", r.context, maxPositions)
	}
	if len(s.Short) != r.headDim/2 {
		p.fail("rope_scaling.short_factor: %d of them for %d pairs", len(s.Short), r.headDim/2)
	}
	for _, f := range s.Short {
		p.positive("rope_scaling.short_factor", &f)
	}
	p.positive("rope_scaling.factor", or(s.Factor, 1))
	p.positive("rope_scaling.attention_factor", or(s.AttnFactor, 1))
}
