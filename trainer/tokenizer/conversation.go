package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/jinja"
)

// maxTurns bounds the messages of a conversation, which is rendered about twice for each.
const maxTurns = 512

// conversation is a list of messages and what a template needs to write them.
type conversation struct {
	chat     *chat
	messages []any // each a *jinja.Dict with a role
	tools    any
}

// conversation reads messages and tools and makes them what templates are written for: content that is text in parts
// becomes one text, and the arguments of a call, which OpenAI's files hold as JSON in a string, become a mapping.
func (t *Tokenizer) conversation(messages, tools json.RawMessage) (*conversation, error) {
	if t.chat.err != nil {
		return nil, t.chat.err
	}
	c := &conversation{chat: t.chat}
	v, err := jinja.FromJSON(messages)
	if err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("messages is not a list with a message in it")
	}
	if len(list) > maxTurns {
		return nil, fmt.Errorf("a conversation of %d messages; at most %d", len(list), maxTurns)
	}
	for i, m := range list {
		if err := t.chat.fit(m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	c.messages = list
	if len(tools) > 0 {
		if c.tools, err = jinja.FromJSON(tools); err != nil {
			return nil, fmt.Errorf("tools: %w", err)
		}
		list, ok := c.tools.([]any)
		if !ok {
			return nil, errors.New("tools is not a list")
		}
		for i, tool := range list {
			list[i] = wrapped(tool)
		}
		if len(list) > 0 && !t.chat.writes("tools") {
			return nil, errors.New("tools: the chat template does not write them, so they would be lost; choose one that does, as chat_template: chatml")
		}
	}
	return c, c.spellCalls()
}

// writes says that the template mentions a variable or key at all.
func (c *chat) writes(what string) bool { return strings.Contains(c.source, what) }

// fit checks a message and makes its content one text.
func (c *chat) fit(m any) error {
	d, ok := m.(*jinja.Dict)
	if !ok {
		return errors.New("not an object")
	}
	if role, _ := d.Get("role"); role == nil || role == "" {
		return errors.New("it has no role")
	} else if _, ok := role.(string); !ok {
		return errors.New("its role is not a string")
	}
	content, has := d.Get("content")
	calls, _ := d.Get("tool_calls")
	list, _ := calls.([]any)
	switch {
	case !has && calls == nil:
		return errors.New("it has neither content nor tool_calls")
	case len(list) > 0 && !c.writes("tool_calls"):
		return errors.New("the chat template does not write tool_calls, so they would be lost; choose one that does, as chat_template: chatml")
	}
	for i, call := range list {
		if f := called(call); f == nil {
			return fmt.Errorf("tool call %d names no function", i)
		}
	}
	if content == nil && len(list) == 0 {
		d.Set("content", "") // many templates would write the word None
	}
	if parts, ok := content.([]any); ok {
		text, err := join(parts)
		if err != nil {
			return err
		}
		d.Set("content", text)
	}
	return nil
}

// join puts parts of text together.
func join(parts []any) (string, error) {
	var b strings.Builder
	for i, p := range parts {
		if s, ok := p.(string); ok {
			b.WriteString(s)
			continue
		}
		d, ok := p.(*jinja.Dict)
		if !ok {
			return "", fmt.Errorf("part %d of its content is neither text nor an object", i)
		}
		text, _ := d.Get("text")
		s, ok := text.(string)
		if kind, _ := d.Get("type"); !ok || kind != "text" {
			return "", fmt.Errorf("part %d of its content is no text; models here read text alone", i)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// wrapped is a tool as templates expect it, also where a row lists functions alone.
func wrapped(tool any) any {
	d, ok := tool.(*jinja.Dict)
	if !ok {
		return tool
	}
	_, whole := d.Get("function")
	if name, _ := d.Get("name"); whole || name == nil {
		return tool
	}
	out := jinja.NewDict()
	out.Set("type", "function")
	out.Set("function", d)
	return out
}

// called is the function of a call, a mapping with a name and arguments, or nil.
func called(call any) *jinja.Dict {
	d, ok := call.(*jinja.Dict)
	if !ok {
		return nil
	}
	if f, ok := d.Get("function"); ok {
		if d, ok = f.(*jinja.Dict); !ok {
			return nil
		}
	}
	if name, _ := d.Get("name"); name == nil {
		return nil
	}
	return d
}

// calls lists the functions that are called with arguments.
func (c *conversation) calls() (out []*jinja.Dict) {
	for _, m := range c.messages {
		calls, _ := m.(*jinja.Dict).Get("tool_calls")
		list, _ := calls.([]any)
		for _, call := range list {
			f := called(call)
			if a, _ := f.Get("arguments"); a != nil {
				out = append(out, f)
			}
		}
	}
	return out
}

// spellCalls gives the arguments of calls the form that the template can write: a mapping, which most expect, or JSON in
// a string. A mapping is tried first; if that cannot be rendered, the string is taken.
func (c *conversation) spellCalls() error {
	calls := c.calls()
	if len(calls) == 0 {
		return nil
	}
	texts := make([]string, len(calls))
	for i, d := range calls {
		a, _ := d.Get("arguments")
		if s, ok := a.(string); ok {
			texts[i] = s
			if v, err := jinja.FromJSON([]byte(s)); err == nil {
				if m, ok := v.(*jinja.Dict); ok {
					d.Set("arguments", m)
				}
			}
			continue
		}
		var err error
		if texts[i], err = jinja.ToJSON(a); err != nil {
			return fmt.Errorf("arguments of a tool call: %w", err)
		}
	}
	if _, _, err := c.render(c.messages, false); err == nil {
		return nil
	}
	for i, d := range calls {
		d.Set("arguments", texts[i])
	}
	return nil
}

// render writes messages out.
func (c *conversation) render(messages []any, answer bool) (string, []jinja.Span, error) {
	vars := map[string]any{"messages": messages[:len(messages):len(messages)], "tools": c.tools, "documents": nil,
		"add_generation_prompt": answer, "strftime_now": jinja.Today(today)}
	for k, v := range c.chat.names {
		vars[k] = v
	}
	return c.chat.template.Execute(vars)
}
