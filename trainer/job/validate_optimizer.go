package job

import (
	"errors"
	"fmt"
	"slices"
)

// Optimizers.
const (
	AdamW     = "adamw"
	AdamW8    = "adamw8bit"
	Lion      = "lion"
	Sophia    = "sophia"
	SGD       = "sgd"
	Adafactor = "adafactor"
)

// optimizers are the update rules by name, with the defaults of the keys that each has; a key that one has not is
// refused.
func optimizers() map[string]Optimizer {
	return map[string]Optimizer{
		AdamW:     {Betas: []float64{0.9, 0.999}, Eps: 1e-8},
		AdamW8:    {Betas: []float64{0.9, 0.999}, Eps: 1e-8},
		Lion:      {Betas: []float64{0.9, 0.99}},
		Sophia:    {Betas: []float64{0.965, 0.99}, Eps: 1e-15, Rho: 0.04, HessianEvery: 10},
		SGD:       {},
		Adafactor: {Eps: 1e-30},
	}
}

func (o *Optimizer) fill() {
	or(&o.Name, AdamW)
	d := optimizers()[o.Name]
	if len(o.Betas) == 0 {
		o.Betas = d.Betas
	}
	or(&o.Eps, d.Eps)
	or(&o.Rho, d.Rho)
	or(&o.HessianEvery, d.HessianEvery)
	if o.NoDecay == nil {
		o.NoDecay = &[]string{"norm", "bias"}
	}
}

func (s *Spec) checkOptimizer() error {
	o := &s.Optimizer
	if err := oneOf("optimizer.name", o.Name, AdamW, AdamW8, Lion, Sophia, SGD, Adafactor); err != nil {
		return err
	}
	switch {
	case o.LR == 0:
		return errors.New("optimizer.lr is missing; for LoRA 2e-4 and for full fine-tuning 2e-5 are usual")
	case !(o.LR > 0 && o.LR <= 100):
		return fmt.Errorf("optimizer.lr is %v; choose a positive number, as 2e-4", o.LR)
	case !(o.WeightDecay >= 0 && o.WeightDecay <= 100):
		return fmt.Errorf("optimizer.weight_decay is %v; choose 0 or a positive number, as 0.1", o.WeightDecay)
	case !(*s.MaxGradNorm >= 0 && finite(*s.MaxGradNorm)):
		return fmt.Errorf("max_grad_norm is %v; choose a positive number, or 0 for no clipping", *s.MaxGradNorm)
	}
	if err := o.checkForeign(); err != nil {
		return err
	}
	if err := o.checkOwn(); err != nil {
		return err
	}
	return checkStrings("optimizer.no_decay", *o.NoDecay...)
}

// checkForeign refuses keys of other optimizers.
func (o *Optimizer) checkForeign() error {
	has := optimizers()[o.Name]
	for _, k := range []struct {
		key string
		bad bool
		of  string
	}{
		{"betas", len(o.Betas) > 0 && len(has.Betas) == 0, "adamw, adamw8bit, lion and sophia"},
		{"eps", o.Eps != 0 && has.Eps == 0, "adamw, adamw8bit, sophia and adafactor"},
		{"rho", o.Rho != 0 && has.Rho == 0, Sophia},
		{"hessian_every", o.HessianEvery != 0 && has.HessianEvery == 0, Sophia},
		{"momentum", o.Momentum != 0 && o.Name != SGD, SGD},
		{"nesterov", o.Nesterov && o.Name != SGD, SGD},
	} {
		if k.bad {
			return fmt.Errorf("optimizer.%s belongs to %s, but optimizer.name is %s; remove the key", k.key, k.of, o.Name)
		}
	}
	return nil
}

// checkOwn checks the keys that the optimizer has.
func (o *Optimizer) checkOwn() error {
	has := optimizers()[o.Name]
	beta := func(b float64) bool { return b >= 0 && b < 1 }
	switch {
	case len(has.Betas) > 0 && len(o.Betas) != 2:
		return fmt.Errorf("optimizer.betas has %d numbers; write two, as %v", len(o.Betas), has.Betas)
	case slices.ContainsFunc(o.Betas, func(b float64) bool { return !beta(b) }):
		return fmt.Errorf("optimizer.betas is %v; both lie from 0 up to but not including 1", o.Betas)
	case has.Eps != 0 && !(o.Eps > 0 && o.Eps <= 1):
		return fmt.Errorf("optimizer.eps is %v; choose a small positive number, as %v", o.Eps, has.Eps)
	case !beta(o.Momentum):
		return fmt.Errorf("optimizer.momentum is %v; choose a number from 0 up to but not including 1, as 0.9", o.Momentum)
	case o.Nesterov && o.Momentum == 0:
		return errors.New("optimizer.nesterov is set without optimizer.momentum; set it, as 0.9")
	case has.Rho != 0 && !(o.Rho > 0 && o.Rho <= 1e6):
		return fmt.Errorf("optimizer.rho is %v; choose a positive number, as %v", o.Rho, has.Rho)
	case o.HessianEvery < 0:
		return fmt.Errorf("optimizer.hessian_every is %d; choose 1 or more optimizer steps, as %d", o.HessianEvery, has.HessianEvery)
	}
	return nil
}
