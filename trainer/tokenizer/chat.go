package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/jinja"
)

// chat is how a model's conversations are written.
type chat struct {
	template *jinja.Template
	err      error          // the model's template is not readable: told to whoever wants to chat
	names    map[string]any // bos_token and the like
	own      bool           // the model brought the template
}

// chatML is the template for models that bring none: each message between <|im_start|>role and the token that ends a
// turn, which is <|im_end|> if the vocabulary has it, else EOS. Only text can be written so.
const chatML = `{% for message in messages %}
{% if message.content is not string or message.tool_calls %}
{{ raise_exception('the model has no chat template, and without one a message is text alone') }}
{% endif %}
{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ end_of_turn ~ '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %}`

func newChat(c *config, t *Tokenizer) *chat {
	ch := &chat{names: map[string]any{}, own: c.template != ""}
	source := c.template
	if !ch.own {
		source = chatML
	}
	if ch.template, ch.err = jinja.Parse(source); ch.err != nil {
		ch.err = fmt.Errorf("the model's chat template is not readable: %w", ch.err)
	}
	for name, v := range map[string]*tokenName{"bos_token": c.BOS, "eos_token": c.EOS, "unk_token": c.UNK, "pad_token": c.PAD} {
		if v != nil {
			ch.names[name] = string(*v)
		}
	}
	end := "<|im_end|>"
	if _, ok := t.ids[end]; !ok {
		if _, eos, ok := t.EOS(); ok {
			end = eos
		}
	}
	ch.names["end_of_turn"] = end
	return ch
}

// HasTemplate says that the model brought a chat template; else conversations are written in ChatML.
func (t *Tokenizer) HasTemplate() bool { return t.chat.own }

// Render writes a conversation out: messages is a JSON list of {"role", "content", …}, tools a JSON list or nothing.
// With answer the text ends where an assistant begins to speak.
func (t *Tokenizer) Render(messages, tools json.RawMessage, answer bool) (string, error) {
	c, err := t.conversation(messages, tools)
	if err != nil {
		return "", err
	}
	text, _, err := c.render(len(c.messages), answer)
	return text, err
}

// ChatPrompt encodes a conversation up to where an assistant begins to speak.
func (t *Tokenizer) ChatPrompt(messages, tools json.RawMessage) ([]int32, error) {
	text, err := t.Render(messages, tools, true)
	if err != nil {
		return nil, err
	}
	ids, err := t.EncodeSpecial(text)
	return append(t.chatPrefix(), ids...), err
}

// chatPrefix is what precedes a conversation: templates write it themselves, ChatML does not.
func (t *Tokenizer) chatPrefix() []int32 {
	if t.chat.own {
		return nil
	}
	return append([]int32(nil), t.prefix...)
}

// Chat renders a conversation, encodes it, and marks the tokens that an assistant says, with the one that ends its turn.
// A message with "weight": 0 is not marked. What is said is encoded apart from what precedes it, because that is how the
// model will meet it.
//
// A template with {% generation %} tags says itself what is said. Otherwise it is what a message adds to the rendering
// of those before it.
func (t *Tokenizer) Chat(messages, tools json.RawMessage) (ids []int32, said []bool, err error) {
	c, err := t.conversation(messages, tools)
	if err != nil {
		return nil, nil, err
	}
	text, spans, err := c.render(len(c.messages), false)
	if err != nil {
		return nil, nil, err
	}
	if len(spans) > 0 {
		spans, err = c.weigh(spans)
	} else {
		spans, err = c.spans(text)
	}
	if err != nil {
		return nil, nil, err
	}
	ids = t.chatPrefix()
	said = make([]bool, len(ids))
	return t.encodeSpans(ids, said, text, spans)
}

// encodeSpans encodes text piece by piece and marks the pieces that are spans.
func (t *Tokenizer) encodeSpans(ids []int32, said []bool, text string, spans []jinja.Span) ([]int32, []bool, error) {
	at, done := begin, 0
	piece := func(hi int, learn bool) error {
		e := encoder{t: t, at: at}
		if err := e.text(text[done:hi], true); err != nil {
			return err
		}
		if done < hi {
			at = e.at
		}
		done = hi
		n := len(e.ids)
		if learn {
			n = t.turnEnd(e.ids)
		}
		for i, id := range e.ids {
			ids, said = append(ids, id), append(said, learn && i < n)
		}
		return nil
	}
	for _, s := range spans {
		if err := errors.Join(piece(s.Lo, false), piece(s.Hi, true)); err != nil {
			return nil, nil, err
		}
	}
	err := piece(len(text), false)
	return ids, said, err
}

// turnEnd is the number of ids up to the last special token, if nothing but white space follows it: the newline that
// templates write after a turn is theirs, generation has stopped before.
func (t *Tokenizer) turnEnd(ids []int32) int {
	for i := len(ids) - 1; i >= 0; i-- {
		tok := &t.tokens[ids[i]]
		if tok.special {
			return i + 1
		}
		if strings.TrimSpace(string(tok.raw)) != "" {
			break
		}
	}
	return len(ids)
}

// maxTurns bounds the messages of a conversation, which is rendered about twice for each.
const maxTurns = 512

// conversation is a list of messages and what a template needs to write them.
type conversation struct {
	chat     *chat
	messages []any // each a *jinja.Dict with a role
	tools    any
}

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
		if err := checkMessage(m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	c.messages = list
	if len(tools) > 0 {
		if c.tools, err = jinja.FromJSON(tools); err != nil {
			return nil, fmt.Errorf("tools: %w", err)
		}
	}
	return c, nil
}

func checkMessage(m any) error {
	d, ok := m.(*jinja.Dict)
	if !ok {
		return errors.New("not an object")
	}
	if role, _ := d.Get("role"); role == nil || role == "" {
		return errors.New("it has no role")
	} else if _, ok := role.(string); !ok {
		return errors.New("its role is not a string")
	}
	_, content := d.Get("content")
	_, calls := d.Get("tool_calls")
	if !content && !calls {
		return errors.New("it has neither content nor tool_calls")
	}
	return nil
}

// render renders the first n messages.
func (c *conversation) render(n int, answer bool) (string, []jinja.Span, error) {
	vars := map[string]any{"messages": c.messages[:n:n], "tools": c.tools, "add_generation_prompt": answer}
	for k, v := range c.chat.names {
		vars[k] = v
	}
	return c.chat.template.Execute(vars)
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

// spans finds what assistants say in text, the whole rendering.
func (c *conversation) spans(text string) ([]jinja.Span, error) {
	var out []jinja.Span
	for i := range c.messages {
		if _, counts := c.learned(i); !counts {
			continue
		}
		through, _, err := c.render(i+1, false)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(text, through) {
			return nil, fmt.Errorf("the chat template writes message %d differently once others follow, so what it adds is not known; "+
				"use a template with {%% generation %%} tags", i)
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

// start finds where message i begins to speak in through, the rendering that ends with it: where the rendering of the
// messages before it, with the invitation to answer, ends or parts from it.
func (c *conversation) start(i int, through string) (int, error) {
	if i == 0 { // templates cannot be asked for a conversation without messages
		content, _ := c.messages[0].(*jinja.Dict).Get("content")
		s, _ := content.(string)
		return max(strings.Index(through, strings.TrimFunc(s, unicode.IsSpace)), 0), nil
	}
	invited, _, err := c.render(i, true)
	if err != nil {
		return 0, err
	}
	before, _, err := c.render(i, false)
	if err != nil {
		return 0, err
	}
	lo := commonPrefix(invited, through)
	if lo < len(before) && !strings.HasPrefix(through, before) {
		return 0, fmt.Errorf("the chat template writes what precedes message %d differently once it is there, so what it adds is not known; "+
			"use a template with {%% generation %%} tags", i)
	}
	return lo, nil
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
