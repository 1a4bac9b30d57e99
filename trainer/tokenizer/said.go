package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/jinja"
)

// said finds the parts of text, the whole rendering, that assistants say and that count. spans are those that the
// template marks; if it marks none, they are what each message adds to the rendering of those before it.
func (c *conversation) said(text string, spans []jinja.Span) ([]jinja.Span, error) {
	if len(spans) > 0 {
		return c.weigh(spans)
	}
	return c.added(text)
}

// learned says whether message i is an assistant's that counts.
func (c *conversation) learned(i int) (assistant, counts bool) {
	d := c.messages[i].(*jinja.Dict)
	role, _ := d.Get("role")
	weight, _ := d.Get("weight")
	return role == "assistant", role == "assistant" && weight != int64(0) && weight != 0.0 && weight != false
}

// weigh drops the spans of messages that do not count. The template made a span for each assistant message, or this
// cannot be done.
func (c *conversation) weigh(spans []jinja.Span) ([]jinja.Span, error) {
	var counts []bool
	all := true
	for i := range c.messages {
		if is, ok := c.learned(i); is {
			counts, all = append(counts, ok), all && ok
		}
	}
	if all {
		return spans, nil
	}
	if len(counts) != len(spans) {
		return nil, fmt.Errorf("weights are given, but the template marks %d parts for %d assistant messages", len(spans), len(counts))
	}
	var out []jinja.Span
	for i, s := range spans {
		if counts[i] {
			out = append(out, s)
		}
	}
	return out, nil
}

// added finds what assistants' messages add.
func (c *conversation) added(text string) ([]jinja.Span, error) {
	var out []jinja.Span
	for i := range c.messages {
		if _, counts := c.learned(i); !counts {
			continue
		}
		through, _, err := c.render(c.messages[:i+1], false)
		if err != nil {
			return nil, err
		}
		through, ok := c.opens(text, through)
		if !ok {
			return nil, fmt.Errorf("the chat template writes message %d differently once others follow, so what it adds is not known; %s", i, remedy)
		}
		lo, err := c.start(i, through)
		if err != nil {
			return nil, err
		}
		if lo < len(through) {
			out = append(out, jinja.Span{Lo: lo, Hi: len(through)})
		}
	}
	return out, nil
}

const remedy = "use a template with {% generation %} tags, or a built-in one, as chat_template: chatml"

// start finds where message i begins to speak in through, the rendering that ends with it. Where the rendering of the
// messages before it with the invitation to answer is a beginning of it, that is what the model will have been given.
// Other templates invite to something else, as to thinking first: there it is where two answers would part.
func (c *conversation) start(i int, through string) (int, error) {
	if i > 0 { // templates cannot be asked for a conversation without messages
		invited, _, err := c.render(c.messages[:i], true)
		if err != nil {
			return 0, err
		}
		before, _, err := c.render(c.messages[:i], false)
		if err != nil {
			return 0, err
		}
		if _, ok := c.opens(through, before); !ok {
			return 0, fmt.Errorf("the chat template writes what precedes message %d differently once it is there, so what it adds is not known; %s", i, remedy)
		}
		if strings.HasPrefix(through, invited) {
			return len(invited), nil
		}
	}
	head, err := c.head(i)
	if err != nil {
		return 0, err
	}
	if !strings.HasPrefix(through, head) {
		return 0, fmt.Errorf("the chat template does not say where message %d begins to speak; %s", i, remedy)
	}
	return len(head), nil
}

// opens says whether text begins with head, and with how much of it: some templates (Phi-3's) write EOS after the last
// message, whoever says it, and not after earlier ones.
func (c *conversation) opens(text, head string) (string, bool) {
	if strings.HasPrefix(text, head) {
		return head, true
	}
	eos, _ := c.chat.names["eos_token"].(string)
	body, ok := strings.CutSuffix(strings.TrimRight(head, "\n"), eos)
	return body, ok && eos != "" && strings.HasPrefix(text, body)
}

// head is what the rendering of two conversations has in common that differ in what message i says.
func (c *conversation) head(i int) (string, error) {
	var out [2]string
	for k, word := range []string{"\ue000", "\ue001"} { // for private use: no template looks for them
		d := jinja.NewDict()
		d.Set("role", "assistant")
		d.Set("content", word)
		text, _, err := c.render(append(c.messages[:i:i], d), false)
		if err != nil {
			return "", err
		}
		out[k] = text
	}
	return out[0][:commonPrefix(out[0], out[1])], nil
}

// commonPrefix is the length of the longest common prefix, in whole characters.
func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(b) && !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}
