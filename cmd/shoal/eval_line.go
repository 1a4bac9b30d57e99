package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer"
)

// evalLine is a measurement as people read it; samples stand on lines of their own.
func evalLine(r *trainer.EvalReport) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case unbounded(*r):
		add("held-out loss is not finite")
	case r.Tokens > 0:
		add("held-out loss %.4f, %.1f %% of tokens right", r.Loss, 100*r.Accuracy)
	}
	if r.BaseLoss != 0 {
		add("base text %.4f", r.BaseLoss)
	}
	for _, t := range r.Tasks {
		add("%s %.1f %%", t.Name, 100*t.Accuracy)
	}
	line := fmt.Sprintf("step %d: %s", r.Step, strings.Join(parts, ", "))
	for _, s := range r.Samples {
		line += fmt.Sprintf("\n  %q → %q", s.Prompt, s.Text)
	}
	return line
}

// unbounded tells that a loss was not finite: the report, which JSON has to carry, has the largest number for it.
func unbounded(r trainer.EvalReport) bool { return !(math.Abs(r.Loss) < math.MaxFloat64) }
