package job

import (
	"strings"
	"testing"
)

// TestPipeline: which jobs may be computed in stages, and what is filled in then.
func TestPipeline(t *testing.T) {
	for text, want := range map[string]string{
		"parallel: {pipeline: 3}\n":                               "",
		"parallel: {pipeline: auto}\n":                            "",
		"parallel: {pipeline: 3, zero: 2}\n":                      "",
		"parallel: {pipeline: 2, mirror_rounds: 4, chunks: 8}\n":  "",
		"adapter: dora\nparallel: {pipeline: 4}\n":                "",
		"parallel: {pipeline: 2}\nwire: {activations: int8}\n":    "",
		"parallel: {pipeline: 2}\nwire: {activations: half}\n":    "choose bf16, int8 or fp32",
		"wire: {activations: int8}\n":                             "or set parallel.pipeline",
		"parallel: {pipeline: 1}\nwire: {activations: int8}\n":    "or set parallel.pipeline",
		"parallel: {pipeline: 0}\n":                               "choose auto, or 1 to 256 stages",
		"parallel: {pipeline: 02}\n":                              "choose auto, or 1 to 256 stages",
		"parallel: {pipeline: 300}\n":                             "choose auto, or 1 to 256 stages",
		"parallel: {pipeline: many}\n":                            "choose auto, or 1 to 256 stages",
		"parallel: {pipeline: 2, tensor: 2}\n":                    "parallel.tensor is 2",
		"parallel: {pipeline: 2, zero: 3}\n":                      "leave one of the two out",
		"adapter: lora\nparallel: {pipeline: 2, offload: disk}\n": "leave it or pipeline out",
		"parallel: {pipeline: 2, sync: diloco}\n":                 "leave pipeline or sync out",
		"parallel: {pipeline: 2}\ndtype: fp16\n":                  "choose bf16 or fp32",
	} {
		s, err := Parse([]byte(small + text))
		if err == nil {
			err = s.Validate()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, name := range []string{Sophia, Adafactor} {
		s, err := Parse([]byte(small + "parallel: {pipeline: 2}\n"))
		s.Optimizer.Name = name
		if err == nil {
			err = s.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), "leave parallel.pipeline out") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := Parse([]byte(small + "adapter: lora\nparallel: {pipeline: 2}\n"))
	if err == nil {
		err = s.Validate()
	}
	if err != nil || s.Wire.Activations != BF16 || s.Parallel.MirrorRounds != 1 {
		t.Errorf("%+v %+v: %v", s.Wire, s.Parallel, err)
	}
}
