package job

import (
	"strings"
	"testing"
)

// TestOffload: where frozen weights may lie, and what does not go with it.
func TestOffload(t *testing.T) {
	for text, want := range map[string]string{
		"adapter: lora\nparallel: {offload: disk}\n":                                  "",
		"adapter: lora\nparallel: {offload: cpu}\n":                                   "",
		"parallel: {offload: none}\n":                                                 "",
		"parallel: {offload: cpu}\n":                                                  "set adapter",
		"adapter: lora\nparallel: {offload: moon}\n":                                  "choose none, cpu or disk",
		"adapter: lora\nlora_modules_to_save: [lm_head]\nparallel: {offload: disk}\n": "leave one of the two out",
	} {
		s, err := Parse([]byte(small + text))
		if err == nil {
			err = s.Validate()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
