package job

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// What Spec.Adapter may say.
const (
	AdapterNone       = "none"
	AdapterLora       = "lora"
	AdapterDora       = "dora"
	AdapterIA3        = "ia3"
	AdapterBottleneck = "bottleneck"
	AdapterPrefix     = "prefix"
	AdapterPrompt     = "prompt"
)

// Words of a bottleneck.
const (
	ReLU = "relu"
	SiLU = "silu"
	GELU = "gelu"

	siteAttn = "attn"
	siteMLP  = "mlp"
)

// Activations lists what Bottleneck.Act may say.
func Activations() []string { return []string{ReLU, SiLU, GELU} }

const (
	maxVirtual = 1 << 14 // tokens
	maxHidden  = 1 << 16
)

// Before is how many positions the adapter takes before each text.
func (s *Spec) Before() int {
	switch s.Adapter {
	case AdapterPrefix:
		return s.Prefix.Tokens
	case AdapterPrompt:
		return s.Prompt.Tokens
	}
	return 0
}

// Mergeable tells whether what is trained can become part of the base model's weights: it can where the adapter is
// linear and acts on a weight.
func (s *Spec) Mergeable() bool {
	return s.Adapter == AdapterLora || s.Adapter == AdapterDora || s.Adapter == AdapterIA3
}

// fillAdapter writes the defaults of the adapter in. With lora_model_dir the adapter's own values are taken, by Adopt.
func (s *Spec) fillAdapter() {
	if s.LoraModelDir != "" {
		return
	}
	or(&s.Adapter, AdapterNone)
	switch s.Adapter {
	case AdapterLora, AdapterDora:
		or(&s.LoraR, 8)
		or(&s.LoraAlpha, 16)
	case AdapterBottleneck:
		or(&s.Bottleneck.Reduction, 16)
		or(&s.Bottleneck.Act, ReLU)
		if len(s.Bottleneck.Sites) == 0 {
			s.Bottleneck.Sites = []string{siteMLP}
		}
	case AdapterPrefix:
		or(&s.Prefix.Tokens, 20)
	case AdapterPrompt:
		or(&s.Prompt.Tokens, 16)
	}
}

func (s *Spec) checkAdapter() error {
	if s.Adapter != "" || s.LoraModelDir == "" {
		if err := oneOf("adapter", s.Adapter, AdapterLora, AdapterDora, AdapterIA3, AdapterBottleneck, AdapterPrefix, AdapterPrompt, AdapterNone); err != nil {
			return err
		}
	}
	for _, check := range []func(*Spec) error{(*Spec).checkForeignKeys, (*Spec).checkLora, (*Spec).checkIA3, (*Spec).checkBottleneck,
		(*Spec).checkVirtual, (*Spec).checkUnfrozen} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// adapterKey is a key that some adapters read.
type adapterKey struct {
	key   string
	value any
	of    []string
}

func (s *Spec) adapterKeys() []adapterKey {
	lora := []string{AdapterLora, AdapterDora}
	any := []string{AdapterLora, AdapterDora, AdapterIA3, AdapterBottleneck, AdapterPrefix, AdapterPrompt}
	return []adapterKey{
		{"lora_model_dir", s.LoraModelDir, any}, {"lora_r", s.LoraR, lora}, {"lora_alpha", s.LoraAlpha, lora}, {"lora_dropout", s.LoraDropout, lora},
		{"lora_target_modules", s.LoraTargetModules, lora}, {"lora_target_linear", s.LoraTargetLinear, lora}, {"lora_rslora", s.LoraRSLora, lora},
		{"lora_modules_to_save", s.LoraModulesToSave, any[:4]}, {"ia3.target_modules", s.IA3.TargetModules, any[2:3]},
		{"ia3.feedforward_modules", s.IA3.FeedForwardModules, any[2:3]}, {"bottleneck.reduction", s.Bottleneck.Reduction, any[3:4]},
		{"bottleneck.sites", s.Bottleneck.Sites, any[3:4]}, {"bottleneck.act", s.Bottleneck.Act, any[3:4]},
		{"prefix.tokens", s.Prefix.Tokens, any[4:5]}, {"prefix.projection", s.Prefix.Projection, any[4:5]}, {"prefix.hidden", s.Prefix.Hidden, any[4:5]},
		{"prompt.tokens", s.Prompt.Tokens, any[5:]}, {"prompt.init_text", s.Prompt.InitText, any[5:]},
		{"unfrozen_parameters", s.UnfrozenParameters, []string{AdapterNone}},
	}
}

// checkForeignKeys refuses keys that the adapter would ignore.
func (s *Spec) checkForeignKeys() error {
	if s.Adapter == "" { // what lora_model_dir holds is not known yet
		return nil
	}
	for _, k := range s.adapterKeys() {
		v := reflect.ValueOf(k.value)
		unset := v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
		if unset || slices.Contains(k.of, s.Adapter) {
			continue
		}
		return fmt.Errorf("%s is set but adapter is %s; write adapter: %s, or remove %s", k.key, s.Adapter, strings.Join(k.of, " or "), k.key)
	}
	return nil
}

func (s *Spec) checkLora() error {
	there := s.Adapter == AdapterLora || s.Adapter == AdapterDora
	switch {
	case there && s.LoraModelDir == "" && s.LoraR < 1, s.LoraR < 0 || s.LoraR > maxRank:
		return fmt.Errorf("lora_r is %d; choose 1 to %d", s.LoraR, maxRank)
	case !finite(s.LoraAlpha) || s.LoraAlpha < 0:
		return fmt.Errorf("lora_alpha is %v; choose a positive number, as 16", s.LoraAlpha)
	case !(s.LoraDropout >= 0 && s.LoraDropout < 1):
		return fmt.Errorf("lora_dropout is %v; choose a number from 0 up to but not including 1", s.LoraDropout)
	case s.LoraTargetLinear && len(s.LoraTargetModules) > 0:
		return errors.New("lora_target_linear and lora_target_modules are both set; keep one of them")
	}
	if err := checkStrings("lora_modules_to_save", s.LoraModulesToSave...); err != nil {
		return err
	}
	if slices.Contains(s.LoraModulesToSave, "") {
		return errors.New("lora_modules_to_save holds an empty name; name modules, as embed_tokens")
	}
	return checkStrings("lora_target_modules", append(slices.Clone(s.LoraTargetModules), s.LoraModelDir)...)
}

func (s *Spec) checkIA3() error {
	for _, t := range s.IA3.FeedForwardModules {
		if len(s.IA3.TargetModules) > 0 && !slices.Contains(s.IA3.TargetModules, t) {
			return fmt.Errorf("ia3.feedforward_modules names %q, which ia3.target_modules does not; add it there", clip(t, 40))
		}
	}
	if err := checkStrings("ia3.target_modules", s.IA3.TargetModules...); err != nil {
		return err
	}
	return checkStrings("ia3.feedforward_modules", s.IA3.FeedForwardModules...)
}

func (s *Spec) checkBottleneck() error {
	b := s.Bottleneck
	if !(b.Reduction >= 0 && b.Reduction <= maxHidden) {
		return fmt.Errorf("bottleneck.reduction is %v; choose a positive number, as 16", b.Reduction)
	}
	if len(b.Sites) > 2 {
		return fmt.Errorf("bottleneck.sites has %d entries; choose among %s, %s", len(b.Sites), siteAttn, siteMLP)
	}
	for i, site := range b.Sites {
		if err := oneOf("bottleneck.sites", site, siteAttn, siteMLP); err != nil {
			return err
		}
		if slices.Contains(b.Sites[:i], site) {
			return fmt.Errorf("bottleneck.sites names %s twice; name it once", site)
		}
	}
	if b.Act == "" {
		return nil
	}
	return oneOf("bottleneck.act", b.Act, Activations()...)
}

// checkVirtual is for the adapters that put virtual tokens before a text.
func (s *Spec) checkVirtual() error {
	switch {
	case s.Prefix.Tokens < 0 || s.Prefix.Tokens > maxVirtual:
		return fmt.Errorf("prefix.tokens is %d; choose 1 to %d", s.Prefix.Tokens, maxVirtual)
	case s.Prefix.Hidden < 0 || s.Prefix.Hidden > maxHidden:
		return fmt.Errorf("prefix.hidden is %d; choose 1 to %d", s.Prefix.Hidden, maxHidden)
	case s.Prefix.Hidden > 0 && !s.Prefix.Projection:
		return errors.New("prefix.hidden is set but prefix.projection is not; write projection: true, or remove prefix.hidden")
	case s.Prompt.Tokens < 0 || s.Prompt.Tokens > maxVirtual:
		return fmt.Errorf("prompt.tokens is %d; choose 1 to %d", s.Prompt.Tokens, maxVirtual)
	case s.SamplePacking && (s.Adapter == AdapterPrefix || s.Adapter == AdapterPrompt):
		return fmt.Errorf("sample_packing does not go with adapter: %s, whose virtual tokens stand before a single text; remove sample_packing", s.Adapter)
	}
	return checkStrings("prompt.init_text", strings.NewReplacer("\n", " ", "\t", " ").Replace(s.Prompt.InitText))
}

func (s *Spec) checkUnfrozen() error {
	for _, pattern := range s.UnfrozenParameters {
		if _, err := regexp.Compile(pattern); err != nil || pattern == "" {
			return fmt.Errorf("unfrozen_parameters: %q is no regular expression; write the beginning of names, as model\\.layers\\.2[0-9]", clip(pattern, 60))
		}
	}
	return checkStrings("unfrozen_parameters", s.UnfrozenParameters...)
}
