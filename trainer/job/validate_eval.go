package job

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxTasks   = 16
	maxSamples = 16
	maxShots   = 64
)

// measures tells that there is something to measure.
func (s *Spec) measures() bool {
	e := s.Eval
	return s.ValSetSize > 0 || len(e.Tasks) > 0 || e.BaseText != "" || len(e.Samples) > 0
}

func (s *Spec) checkEval() error {
	e := s.Eval
	switch {
	case e.EverySteps < 0:
		return fmt.Errorf("eval.every_steps is %d; choose 1 or more, or 0 to measure at the end", e.EverySteps)
	case e.EverySteps > 0 && !s.measures():
		return errors.New("eval.every_steps is set but no rows are held out and nothing is asked; set val_set_size, as 0.02, or eval.tasks")
	case e.Patience < 0:
		return fmt.Errorf("eval.patience is %d; choose 1 or more measurements, or 0 to never stop early", e.Patience)
	case (e.Patience > 0 || e.KeepBest) && s.ValSetSize == 0:
		return fmt.Errorf("%s goes by the loss of held-out rows, but none are held out; set val_set_size, as 0.02", s.stopKey())
	case (e.Patience > 0 || e.KeepBest) && e.EverySteps == 0:
		return fmt.Errorf("%s needs measurements on the way; set eval.every_steps", s.stopKey())
	case s.MaxSteps > 0 && e.EverySteps > s.MaxSteps:
		return fmt.Errorf("eval.every_steps %d is more than max_steps %d; lower it, or leave it out to measure at the end alone", e.EverySteps, s.MaxSteps)
	case len(e.Tasks) > maxTasks:
		return fmt.Errorf("eval.tasks has %d entries; at most %d", len(e.Tasks), maxTasks)
	case len(e.Samples) > maxSamples:
		return fmt.Errorf("eval.samples has %d entries; at most %d", len(e.Samples), maxSamples)
	}
	for i, t := range e.Tasks {
		key := fmt.Sprintf("eval.tasks.%d", i)
		if t.Path == "" {
			return fmt.Errorf("%s.path is missing; name a file of questions", key)
		}
		if t.FewShot < 0 || t.FewShot > maxShots {
			return fmt.Errorf("%s.fewshot is %d; choose 0 to %d", key, t.FewShot, maxShots)
		}
		if err := checkStrings(key+".path", t.Path); err != nil {
			return err
		}
	}
	for i, prompt := range e.Samples {
		if strings.TrimSpace(prompt) == "" {
			return fmt.Errorf("eval.samples.%d is empty; write a prompt to continue", i)
		}
		if err := checkStrings(fmt.Sprintf("eval.samples.%d", i), strings.NewReplacer("\n", " ", "\t", " ").Replace(prompt)); err != nil {
			return err
		}
	}
	return checkStrings("eval.base_text", e.BaseText)
}

func (s *Spec) stopKey() string {
	if s.Eval.Patience > 0 {
		return "eval.patience"
	}
	return "eval.keep_best"
}
