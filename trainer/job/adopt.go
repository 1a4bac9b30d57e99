package job

import (
	"fmt"
	"slices"
)

// Adapter is what a PEFT adapter_config.json says about a LoRA.
type Adapter struct {
	R             int
	Alpha         float64
	Dropout       float64
	TargetModules []string
	RSLora        bool
}

// Adopt takes over the values of the adapter in LoraModelDir: its values win, equal ones beside it are fine, and
// different ones are refused, because the weights that are there fit only their own.
func (s *Spec) Adopt(a Adapter) error {
	differs := func(key string, mine, its any) error {
		return fmt.Errorf("%s is %v but the adapter in lora_model_dir has %v; remove the key", key, mine, its)
	}
	switch {
	case s.LoraR != 0 && s.LoraR != a.R:
		return differs("lora_r", s.LoraR, a.R)
	case s.LoraAlpha != 0 && s.LoraAlpha != a.Alpha:
		return differs("lora_alpha", s.LoraAlpha, a.Alpha)
	case s.LoraDropout != 0 && s.LoraDropout != a.Dropout:
		return differs("lora_dropout", s.LoraDropout, a.Dropout)
	case s.LoraRSLora && !a.RSLora:
		return differs("lora_rslora", true, false)
	case len(s.LoraTargetModules) > 0 && !slices.Equal(sorted(s.LoraTargetModules), sorted(a.TargetModules)):
		return differs("lora_target_modules", s.LoraTargetModules, a.TargetModules)
	}
	s.LoraR, s.LoraAlpha, s.LoraDropout, s.LoraRSLora = a.R, a.Alpha, a.Dropout, a.RSLora
	s.LoraTargetModules = slices.Clone(a.TargetModules)
	return s.Validate()
}

func sorted(v []string) []string {
	v = slices.Clone(v)
	slices.Sort(v)
	return slices.Compact(v)
}
