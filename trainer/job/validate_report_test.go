package job

import (
	"strings"
	"testing"
)

// TestUnbuilt: what does nothing yet is refused instead of ignored.
func TestUnbuilt(t *testing.T) {
	for _, lines := range []string{
		"eval: {tasks: [{path: a.jsonl}]}", "eval: {base_text: a.txt}", "eval: {samples: [hello]}", "eval: {patience: 2}", "eval: {keep_best: true}",
		"report: {tensorboard: true}",
	} {
		s := parsed(t, lines+"\n")
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "does nothing in this version of shoal; remove it") {
			t.Errorf("%s: %v", lines, err)
		}
	}
}
