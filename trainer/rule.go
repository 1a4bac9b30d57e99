package trainer

import (
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// rule is the update rule of a validated spec.
func rule(spec *job.Spec) optim.Rule {
	o := spec.Optimizer
	decay := optim.Decay{WeightDecay: o.WeightDecay, NoDecay: []string{"norm", "bias"}}
	if o.NoDecay != nil {
		decay.NoDecay = *o.NoDecay
	}
	beta := func(i int) float64 { return o.Betas[i] }
	switch o.Name {
	case job.AdamW8:
		return optim.AdamW8{AdamW: optim.AdamW{Beta1: beta(0), Beta2: beta(1), Eps: o.Eps, Decay: decay}}
	case job.Lion:
		return optim.Lion{Beta1: beta(0), Beta2: beta(1), Decay: decay}
	case job.Sophia:
		return optim.Sophia{Beta1: beta(0), Beta2: beta(1), Rho: o.Rho, Eps: o.Eps, Every: o.HessianEvery, Decay: decay}
	case job.SGD:
		return optim.SGD{Momentum: o.Momentum, Nesterov: o.Nesterov, Decay: decay}
	case job.Adafactor:
		return optim.Adafactor{Eps: o.Eps, Decay: decay}
	}
	return optim.AdamW{Beta1: beta(0), Beta2: beta(1), Eps: o.Eps, Decay: decay}
}
