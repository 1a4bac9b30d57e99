package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Forms of a result. A GGUF form may name the type of its weights after a colon, as gguf:q8_0.
const (
	FormLoRA   = "lora"   // a PEFT directory, of whatever adapter
	FormMerged = "merged" // a Hugging Face directory, the adapter added to the weights
	FormFull   = "full"   // a Hugging Face directory of a model that was trained itself
	FormGGUF   = "gguf"   // one file for llama.cpp
)

// forms lists what Output.As may say.
func forms() []string {
	return []string{FormLoRA, FormMerged, FormFull, FormGGUF, "gguf:f32", "gguf:f16", "gguf:bf16", "gguf:q8_0"}
}

// Forms are the forms in which the result is written: as where it is given, or what output.as lists, or the plain one. It
// refuses what the job's result cannot be.
func (s *Spec) Forms(as string) ([]string, error) {
	list := s.Output.As
	if as != "" {
		list = []string{as}
	}
	if len(list) == 0 {
		list = []string{s.plainForm()}
	}
	for _, f := range list {
		if err := s.checkForm(f); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// plainForm is how the result is written when nobody says how. A model that surgery has changed is in no base model's
// files, so its adapter alone would be of no use.
func (s *Spec) plainForm() string {
	switch {
	case s.Adapter == AdapterNone:
		return FormFull
	case s.Surgery.KVHeads != 0:
		return FormMerged
	}
	return FormLoRA
}

func (s *Spec) checkForm(f string) error {
	adapter := s.Adapter != AdapterNone
	kind, _, _ := strings.Cut(f, ":")
	switch {
	case !slices.Contains(forms(), f):
		return fmt.Errorf("%q is no form of a result; choose %s", clip(f, 40), strings.Join(forms(), ", "))
	case !adapter && (kind == FormLoRA || kind == FormMerged):
		return fmt.Errorf("%s: the job trains the model's own weights (adapter: %s); write it as full or gguf", f, s.Adapter)
	case adapter && kind == FormFull:
		return fmt.Errorf("full: the job trains an adapter; write it as lora%s", map[bool]string{true: ", merged or gguf"}[s.Mergeable()])
	case adapter && !s.Mergeable() && kind != FormLoRA:
		return fmt.Errorf("%s: an adapter of kind %s has no merged form; write it as lora, which is its PEFT directory", f, s.Adapter)
	case kind == FormLoRA && s.Surgery.KVHeads != 0:
		return errors.New(`lora: surgery.kv_heads changes the base model, and an adapter alone fits no model that there is; write merged, or make the model first with "shoal model convert-gqa"`)
	}
	return nil
}

func (s *Spec) checkOutput() error {
	if s.Surgery.KVHeads < 0 || s.Surgery.KVHeads > 1<<20 {
		return fmt.Errorf("surgery.kv_heads is %d; choose a divisor of the model's number of heads of keys and values", s.Surgery.KVHeads)
	}
	if len(s.Output.As) > len(forms()) {
		return fmt.Errorf("output.as has %d entries; name each form once", len(s.Output.As))
	}
	for i, f := range s.Output.As {
		if slices.Contains(s.Output.As[:i], f) {
			return fmt.Errorf("output.as holds %s twice; remove one", clip(f, 40))
		}
	}
	if s.Adapter == "" { // what lora_model_dir holds is not known yet
		return nil
	}
	if _, err := s.Forms(""); err != nil {
		return fmt.Errorf("output.as: %w", err)
	}
	return nil
}
