package job

import (
	"strings"
	"testing"
)

// TestCheckSteps: what an epoch is too short for is found when its rows are counted.
func TestCheckSteps(t *testing.T) {
	for lines, want := range map[string]string{
		"lr_scheduler: {warmup_steps: 11}":                "warmup_steps 11 is more than the 10 steps of num_epochs 1",
		"lr_scheduler: {warmup_steps: 10}":                "",
		"val_set_size: 2\neval: {every_steps: 11}":        "eval.every_steps 11 is more than the 10 steps",
		"val_set_size: 2\neval: {every_steps: 10}":        "",
		"max_steps: 20\nlr_scheduler: {warmup_steps: 11}": "",
	} {
		s := parsed(t, lines+"\n")
		if !strings.Contains(lines, "max_steps") {
			s.MaxSteps = 0
		}
		s.GlobalBatchSize, s.MicroBatchSize = 2, 1
		if err := s.Validate(); err != nil {
			t.Fatal(lines, err)
		}
		if err := s.CheckSteps(20); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", lines, err, want)
		}
	}
}
