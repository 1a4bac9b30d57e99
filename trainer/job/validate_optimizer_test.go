package job

import (
	"strings"
	"testing"
)

// TestOptimizerRefuses: keys that are out of range, of another optimizer or schedule, or contradict each other.
func TestOptimizerRefuses(t *testing.T) {
	for set, want := range map[string]string{
		"optimizer.name=rmsprop":                                                           "choose adamw, adamw8bit, lion, sophia, sgd, adafactor",
		"optimizer.betas=[0.9,NaN]":                                                        "optimizer.betas is",
		"optimizer.name=lion optimizer.betas=[0.9]":                                        "write two, as [0.9 0.99]",
		"optimizer.name=sgd optimizer.betas=[0.9,0.99]":                                    "betas belongs to",
		"optimizer.name=adafactor optimizer.betas=[0,0.9]":                                 "betas belongs to",
		"optimizer.name=lion optimizer.eps=1e-8":                                           "eps belongs to",
		"optimizer.name=sophia optimizer.eps=2":                                            "optimizer.eps is 2",
		"optimizer.momentum=0.9":                                                           "momentum belongs to sgd",
		"optimizer.nesterov=true":                                                          "nesterov belongs to sgd",
		"optimizer.name=sgd optimizer.nesterov=true":                                       "without optimizer.momentum",
		"optimizer.name=sgd optimizer.momentum=1":                                          "optimizer.momentum is 1",
		"optimizer.name=sgd optimizer.momentum=NaN":                                        "optimizer.momentum is NaN",
		"optimizer.rho=0.1":                                                                "rho belongs to sophia",
		"optimizer.hessian_every=5":                                                        "hessian_every belongs to sophia",
		"optimizer.name=sophia optimizer.rho=-1":                                           "optimizer.rho is -1",
		"optimizer.name=sophia optimizer.hessian_every=-1":                                 "optimizer.hessian_every is -1",
		"lr_scheduler.name=step":                                                           "choose constant, linear, cosine, wsd",
		"lr_scheduler.warmup_ratio=1":                                                      "warmup_ratio is 1",
		"lr_scheduler.warmup_ratio=NaN":                                                    "warmup_ratio is NaN",
		"lr_scheduler.decay_ratio=0.1":                                                     "decay_ratio belongs to wsd",
		"lr_scheduler.name=wsd lr_scheduler.decay_ratio=2":                                 "decay_ratio is 2",
		"lr_scheduler.warmup_ratio=0.1 lr_scheduler.warmup_steps=3":                        "keep one of them",
		"lr_scheduler.name=wsd lr_scheduler.warmup_ratio=0.5 lr_scheduler.decay_ratio=0.6": "more than the whole run",
	} {
		s, err := Parse([]byte(small))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range strings.Fields(set) {
			if err := s.Set(a); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", set, err, want)
		}
	}
}
