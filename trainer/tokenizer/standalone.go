package tokenizer

import (
	"slices"
	"strings"
)

// TemplateFile is where a model directory has its chat template.
const TemplateFile = "chat_template.jinja"

// Standalone is the chat template in use as a file of its own, which renders the same elsewhere. Templates that models
// bring do already; shoal's own leave BOS to whoever encodes, and may ask for what ends a turn.
func (t *Tokenizer) Standalone() string {
	c := t.chat
	if c.own {
		return c.source
	}
	var head strings.Builder
	if end, ok := c.names["end_of_turn"].(string); ok && strings.Contains(c.source, "end_of_turn") {
		head.WriteString("{%- set end_of_turn = '" + quoted.Replace(end) + "' -%}\n")
	}
	if bos, ok := c.names["bos_token"].(string); ok && bos != "" && t.bos >= 0 && slices.Contains(t.prefix, t.bos) {
		head.WriteString("{{- bos_token -}}\n")
	}
	return head.String() + c.source
}

// quoted writes a text between single quotes.
var quoted = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`)
