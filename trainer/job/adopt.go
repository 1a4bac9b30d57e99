package job

import (
	"fmt"
	"reflect"
	"slices"
)

// Adapter is what a PEFT adapter_config.json says, in the words of a spec.
type Adapter struct {
	Kind          string // AdapterLora and its like
	ModulesToSave []string

	// of lora and dora
	R             int
	Alpha         float64
	Dropout       float64
	TargetModules []string
	TargetLinear  bool
	RSLora        bool

	IA3        IA3
	Bottleneck Bottleneck
	Prefix     Prefix
	Prompt     Prompt
}

// Adopt takes over the values of the adapter in LoraModelDir: its values win, equal ones beside it are fine, and
// different ones are refused, because the weights that are there fit only their own.
func (s *Spec) Adopt(a Adapter) error {
	if a.Kind == "" {
		a.Kind = AdapterLora
	}
	if s.Adapter != "" && s.Adapter != a.Kind {
		return fmt.Errorf("adapter is %s but the adapter in lora_model_dir is %s; write adapter: %s, or remove the key", s.Adapter, a.Kind, a.Kind)
	}
	s.Adapter = a.Kind
	for _, v := range []struct {
		key       string
		mine, its any
	}{
		{"lora_r", &s.LoraR, a.R}, {"lora_alpha", &s.LoraAlpha, a.Alpha}, {"lora_dropout", &s.LoraDropout, a.Dropout},
		{"lora_rslora", &s.LoraRSLora, a.RSLora}, {"lora_target_modules", &s.LoraTargetModules, a.TargetModules},
		{"lora_target_linear", &s.LoraTargetLinear, a.TargetLinear}, {"lora_modules_to_save", &s.LoraModulesToSave, a.ModulesToSave},
		{"ia3.target_modules", &s.IA3.TargetModules, a.IA3.TargetModules},
		{"ia3.feedforward_modules", &s.IA3.FeedForwardModules, a.IA3.FeedForwardModules},
		{"bottleneck.reduction", &s.Bottleneck.Reduction, a.Bottleneck.Reduction}, {"bottleneck.sites", &s.Bottleneck.Sites, a.Bottleneck.Sites},
		{"bottleneck.act", &s.Bottleneck.Act, a.Bottleneck.Act}, {"prefix.tokens", &s.Prefix.Tokens, a.Prefix.Tokens},
		{"prefix.projection", &s.Prefix.Projection, a.Prefix.Projection}, {"prefix.hidden", &s.Prefix.Hidden, a.Prefix.Hidden},
		{"prompt.tokens", &s.Prompt.Tokens, a.Prompt.Tokens}, {"prompt.init_text", &s.Prompt.InitText, a.Prompt.InitText},
	} {
		if err := take(v.key, v.mine, v.its); err != nil {
			return err
		}
	}
	return s.Validate()
}

// take sets *mine, where it is not set, to its.
func take(key string, mine, its any) error {
	dst, src := reflect.ValueOf(mine).Elem(), reflect.ValueOf(its)
	if !dst.IsZero() && !same(dst.Interface(), its) {
		return fmt.Errorf("%s is %v but the adapter in lora_model_dir has %v; remove the key", key, dst, src)
	}
	if list, ok := its.([]string); ok {
		src = reflect.ValueOf(slices.Clone(list))
	}
	dst.Set(src)
	return nil
}

// same compares values, lists as sets.
func same(a, b any) bool {
	x, ok := a.([]string)
	if !ok {
		return a == b
	}
	return slices.Equal(sorted(x), sorted(b.([]string)))
}

func sorted(v []string) []string {
	v = slices.Clone(v)
	slices.Sort(v)
	return slices.Compact(v)
}
