package tokenizer

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/jinja"
)

// DefaultTemplate is the name of the template that the model brought.
const DefaultTemplate = "tokenizer_default"

// Templates lists the names of the templates that shoal has itself.
func Templates() []string { return []string{"chatml", "llama3", "mistral", "gemma", "phi3", "alpaca"} }

//go:embed templates/*.jinja
var templates embed.FS

// today is the date that templates are told: the one that Llama's fall back to where they know none. What a conversation
// is written as must not depend on when that happens.
var today = time.Date(2024, time.July, 26, 0, 0, 0, 0, time.UTC)

// WithTemplate is the tokenizer with the chat template of this name: one of Templates, or DefaultTemplate or nothing for
// the one it has.
func (t *Tokenizer) WithTemplate(name string) (*Tokenizer, error) {
	if name == "" || name == DefaultTemplate {
		return t, nil
	}
	if !slices.Contains(Templates(), name) {
		return nil, fmt.Errorf("chat_template %.40q is not known; choose %s or %s", name, DefaultTemplate, strings.Join(Templates(), ", "))
	}
	with := *t
	with.chat = t.chat.with(builtIn(name))
	return &with, nil
}

func builtIn(name string) string {
	source, err := templates.ReadFile("templates/" + name + ".jinja")
	if err != nil {
		panic(fmt.Sprintf("tokenizer: built-in template %s: %v", name, err))
	}
	return string(source)
}

// with is how conversations are written with the template source.
func (c *chat) with(source string) *chat {
	d := &chat{names: c.names, source: source}
	if d.template, d.err = jinja.Parse(source); d.err != nil {
		d.err = fmt.Errorf("the chat template is not readable: %w", d.err)
	}
	return d
}
