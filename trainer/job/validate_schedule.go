package job

import (
	"errors"
	"fmt"
)

// Schedules.
const (
	Constant = "constant"
	Linear   = "linear"
	Cosine   = "cosine"
	WSD      = "wsd"
)

func (c *Scheduler) fill() {
	or(&c.Name, Constant)
	if c.Name == WSD {
		or(&c.DecayRatio, 0.1)
	}
}

// CheckSteps refuses what is out of range only when it is known how many rows an epoch has.
func (s *Spec) CheckSteps(rows uint64) error {
	steps := s.Steps(rows)
	switch {
	case s.MaxSteps > 0: // Validate has looked
	case uint64(s.LRScheduler.WarmupSteps) > steps:
		return fmt.Errorf("lr_scheduler.warmup_steps %d is more than the %d steps of num_epochs %g, the learning rate would never be reached; lower the first",
			s.LRScheduler.WarmupSteps, steps, s.NumEpochs)
	case uint64(s.Eval.EverySteps) > steps:
		return fmt.Errorf("eval.every_steps %d is more than the %d steps of num_epochs %g; lower it, or leave it out to measure at the end alone",
			s.Eval.EverySteps, steps, s.NumEpochs)
	}
	return nil
}

func (s *Spec) checkScheduler() error {
	c := s.LRScheduler
	if err := oneOf("lr_scheduler.name", c.Name, Constant, Linear, Cosine, WSD); err != nil {
		return err
	}
	switch {
	case c.WarmupSteps < 0:
		return fmt.Errorf("lr_scheduler.warmup_steps is %d; choose 0 or more", c.WarmupSteps)
	case s.MaxSteps > 0 && c.WarmupSteps > s.MaxSteps:
		return fmt.Errorf("lr_scheduler.warmup_steps %d is more than max_steps %d, the learning rate would never be reached; lower the first", c.WarmupSteps, s.MaxSteps)
	case !(c.WarmupRatio >= 0 && c.WarmupRatio < 1):
		return fmt.Errorf("lr_scheduler.warmup_ratio is %v; choose a number from 0 up to but not including 1, as 0.03", c.WarmupRatio)
	case c.WarmupRatio > 0 && c.WarmupSteps > 0:
		return errors.New("lr_scheduler.warmup_ratio and lr_scheduler.warmup_steps are both set; keep one of them")
	case c.DecayRatio != 0 && c.Name != WSD:
		return fmt.Errorf("lr_scheduler.decay_ratio belongs to wsd, but lr_scheduler.name is %s; remove the key", c.Name)
	case !(c.DecayRatio >= 0 && c.DecayRatio <= 1):
		return fmt.Errorf("lr_scheduler.decay_ratio is %v; choose a number above 0 up to 1, as 0.1", c.DecayRatio)
	case c.WarmupRatio+c.DecayRatio > 1:
		return fmt.Errorf("lr_scheduler.warmup_ratio %v and decay_ratio %v are more than the whole run; lower one of them", c.WarmupRatio, c.DecayRatio)
	case !(c.MinLRRatio >= 0 && c.MinLRRatio <= 1):
		return fmt.Errorf("lr_scheduler.min_lr_ratio is %v; choose a number from 0 to 1", c.MinLRRatio)
	case c.MinLRRatio != 0 && c.Name == Constant:
		return errors.New("lr_scheduler.min_lr_ratio belongs to linear, cosine and wsd, but lr_scheduler.name is constant; remove the key")
	}
	return nil
}
