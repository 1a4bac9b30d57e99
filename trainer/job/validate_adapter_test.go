package job

import (
	"strings"
	"testing"
)

func parsed(t *testing.T, lines string) Spec {
	t.Helper()
	s, err := Parse([]byte(small + lines))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAdapterDefaults(t *testing.T) {
	for lines, check := range map[string]func(Spec) bool{
		"adapter: dora":       func(s Spec) bool { return s.LoraR == 8 && s.LoraAlpha == 16 },
		"adapter: ia3":        func(s Spec) bool { return len(s.IA3.TargetModules) == 0 },
		"adapter: bottleneck": func(s Spec) bool { b := s.Bottleneck; return b.Reduction == 16 && b.Act == ReLU && b.Sites[0] == "mlp" },
		"adapter: prefix":     func(s Spec) bool { return s.Prefix.Tokens == 20 && s.Before() == 20 },
		"adapter: prompt":     func(s Spec) bool { return s.Prompt.Tokens == 16 && s.Before() == 16 },
		"lora_model_dir: d":   func(s Spec) bool { return s.Adapter == "" && s.LoraR == 0 },
		"":                    func(s Spec) bool { return s.Adapter == AdapterNone && s.Before() == 0 },
	} {
		s := parsed(t, lines+"\n")
		if err := s.Validate(); err != nil || !check(s) {
			t.Errorf("%s: %v, %+v", lines, err, s)
		}
		again := s
		if err := again.Validate(); err != nil || again.Adapter != s.Adapter {
			t.Errorf("%s, again: %v", lines, err)
		}
	}
}

// TestAdapterRefuses: contradictions are refused by the key and with the fix.
func TestAdapterRefuses(t *testing.T) {
	for lines, want := range map[string]string{
		"adapter: ia3\nlora_r: 4":                                            "lora_r is set but adapter is ia3; write adapter: lora or dora, or remove lora_r",
		"lora_modules_to_save: [norm]":                                       "lora_modules_to_save is set but adapter is none",
		"adapter: prefix\nlora_modules_to_save: [norm]":                      "write adapter: lora or dora or ia3 or bottleneck",
		"adapter: lora\nlora_modules_to_save: ['']":                          "empty name",
		"adapter: lora\nia3: {target_modules: [k_proj]}":                     "write adapter: ia3",
		"adapter: lora\nbottleneck: {act: silu}":                             "write adapter: bottleneck",
		"adapter: prompt\nprefix: {tokens: 4}":                               "write adapter: prefix",
		"adapter: prefix\nprompt: {init_text: a}":                            "write adapter: prompt",
		"adapter: lora\nunfrozen_parameters: [a]":                            "unfrozen_parameters is set but adapter is lora; write adapter: none",
		"unfrozen_parameters: ['(']":                                         "is no regular expression",
		"adapter: ia3\nia3: {target_modules: [a], feedforward_modules: [b]}": "ia3.target_modules does not; add it there",
		"adapter: bottleneck\nbottleneck: {reduction: -1}":                   "bottleneck.reduction is -1",
		"adapter: bottleneck\nbottleneck: {sites: [mlp, mlp]}":               "name it once",
		"adapter: bottleneck\nbottleneck: {sites: [head]}":                   "choose attn, mlp",
		"adapter: bottleneck\nbottleneck: {act: tanh}":                       "choose relu, silu, gelu",
		"adapter: prefix\nprefix: {tokens: -3}":                              "prefix.tokens is -3",
		"adapter: prefix\nprefix: {hidden: 8}":                               "write projection: true",
		"adapter: prompt\nprompt: {tokens: 99999}":                           "prompt.tokens is 99999",
		"adapter: prefix\nsample_packing: true":                              "remove sample_packing",
		"adapter: prompt\nsample_packing: true":                              "remove sample_packing",
		"adapter: bottleneck\noutput: {as: [merged]}":                        "has no merged form; write it as lora",
	} {
		s := parsed(t, lines+"\n")
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", lines, err, want)
		}
	}
}

// TestAdoptKinds: a spec takes over what a stored adapter of any kind says, and refuses another kind.
func TestAdoptKinds(t *testing.T) {
	for _, a := range []Adapter{
		{Kind: AdapterDora, R: 4, Alpha: 8, TargetModules: []string{"q_proj"}, ModulesToSave: []string{"norm"}},
		{Kind: AdapterLora, R: 4, Alpha: 8, TargetLinear: true},
		{Kind: AdapterIA3, IA3: IA3{[]string{"k_proj", "down_proj"}, []string{"down_proj"}}},
		{Kind: AdapterBottleneck, Bottleneck: Bottleneck{8, []string{"mlp"}, SiLU}},
		{Kind: AdapterPrefix, Prefix: Prefix{Tokens: 7}},
		{Kind: AdapterPrompt, Prompt: Prompt{Tokens: 7}},
	} {
		s := parsed(t, "lora_model_dir: d\n")
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := s.Adopt(a); err != nil || s.Adapter != a.Kind {
			t.Errorf("%+v: %v, adapter %q", a, err, s.Adapter)
		}
		if b, err := s.Canonical(); err != nil {
			t.Error(err)
		} else if back, err := FromCanonical(b); err != nil || back.Prefix != s.Prefix || back.Bottleneck.Reduction != a.Bottleneck.Reduction {
			t.Errorf("%+v comes back as %+v, %v", s, back, err)
		}
		other := parsed(t, "lora_model_dir: d\nadapter: lora\n")
		if a.Kind == AdapterLora {
			other.Adapter = AdapterIA3
		}
		if err := other.Adopt(a); err == nil || !strings.Contains(err.Error(), "write adapter: "+a.Kind) {
			t.Errorf("%s over %s: %v", a.Kind, other.Adapter, err)
		}
	}
}
