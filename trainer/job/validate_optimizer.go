package job

import (
	"errors"
	"fmt"
)

func (s *Spec) checkOptimizer() error {
	o := &s.Optimizer
	if err := oneOf("optimizer.name", o.Name, AdamW); err != nil {
		return err
	}
	switch {
	case o.LR == 0:
		return errors.New("optimizer.lr is missing; for LoRA 2e-4 and for full fine-tuning 2e-5 are usual")
	case !(o.LR > 0 && o.LR <= 100):
		return fmt.Errorf("optimizer.lr is %v; choose a positive number, as 2e-4", o.LR)
	case len(o.Betas) != 2:
		return fmt.Errorf("optimizer.betas has %d numbers; write two, as [0.9, 0.999]", len(o.Betas))
	case !(o.Betas[0] >= 0 && o.Betas[0] < 1 && o.Betas[1] >= 0 && o.Betas[1] < 1):
		return fmt.Errorf("optimizer.betas is %v; both lie from 0 up to but not including 1", o.Betas)
	case !(o.Eps > 0 && o.Eps <= 1):
		return fmt.Errorf("optimizer.eps is %v; choose a small positive number, as 1e-8", o.Eps)
	case !(o.WeightDecay >= 0 && o.WeightDecay <= 100):
		return fmt.Errorf("optimizer.weight_decay is %v; choose 0 or a positive number, as 0.1", o.WeightDecay)
	case !(*s.MaxGradNorm >= 0 && finite(*s.MaxGradNorm)):
		return fmt.Errorf("max_grad_norm is %v; choose a positive number, or 0 for no clipping", *s.MaxGradNorm)
	}
	return checkStrings("optimizer.no_decay", *o.NoDecay...)
}

func (s *Spec) checkScheduler() error {
	c := s.LRScheduler
	if err := oneOf("lr_scheduler.name", c.Name, Constant, Linear, Cosine); err != nil {
		return err
	}
	switch {
	case c.WarmupSteps < 0:
		return fmt.Errorf("lr_scheduler.warmup_steps is %d; choose 0 or more", c.WarmupSteps)
	case s.MaxSteps > 0 && c.WarmupSteps > s.MaxSteps:
		return fmt.Errorf("lr_scheduler.warmup_steps %d is more than max_steps %d, the learning rate would never be reached; lower the first", c.WarmupSteps, s.MaxSteps)
	case !(c.MinLRRatio >= 0 && c.MinLRRatio <= 1):
		return fmt.Errorf("lr_scheduler.min_lr_ratio is %v; choose a number from 0 to 1", c.MinLRRatio)
	}
	return nil
}
