package job

import (
	"errors"
	"fmt"
	"slices"
)

func (s *Spec) checkAdapter() error {
	if err := oneOf("adapter", s.Adapter, AdapterLora, AdapterNone); err != nil {
		return err
	}
	if s.Adapter == AdapterNone {
		if k := s.firstLoraKey(); k != "" {
			return fmt.Errorf("%s is set but adapter is none; write adapter: lora, or remove %s", k, k)
		}
		return nil
	}
	switch {
	case s.LoraModelDir == "" && (s.LoraR < 1 || s.LoraR > maxRank), s.LoraR < 0 || s.LoraR > maxRank:
		return fmt.Errorf("lora_r is %d; choose 1 to %d", s.LoraR, maxRank)
	case !finite(s.LoraAlpha) || s.LoraAlpha < 0:
		return fmt.Errorf("lora_alpha is %v; choose a positive number, as 16", s.LoraAlpha)
	case !(s.LoraDropout >= 0 && s.LoraDropout < 1):
		return fmt.Errorf("lora_dropout is %v; choose a number from 0 up to but not including 1", s.LoraDropout)
	case s.LoraTargetLinear && len(s.LoraTargetModules) > 0:
		return errors.New("lora_target_linear and lora_target_modules are both set; keep one of them")
	case s.LoraTargetLinear && s.LoraModelDir != "":
		return errors.New("lora_target_linear and lora_model_dir are both set; the adapter in lora_model_dir names its own modules, remove lora_target_linear")
	}
	return checkStrings("lora_target_modules", append(slices.Clone(s.LoraTargetModules), s.LoraModelDir)...)
}

func (s *Spec) firstLoraKey() string {
	switch {
	case s.LoraModelDir != "":
		return "lora_model_dir"
	case s.LoraR != 0:
		return "lora_r"
	case s.LoraAlpha != 0:
		return "lora_alpha"
	case s.LoraDropout != 0:
		return "lora_dropout"
	case len(s.LoraTargetModules) != 0:
		return "lora_target_modules"
	case s.LoraTargetLinear:
		return "lora_target_linear"
	case s.LoraRSLora:
		return "lora_rslora"
	}
	return ""
}
