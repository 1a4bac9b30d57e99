package tokenizer

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/jinja"
)

// chat is how a model's conversations are written.
type chat struct {
	template *jinja.Template
	source   string         // of the template
	err      error          // the template is not readable: told to whoever wants to chat
	names    map[string]any // bos_token and the like
	own      bool           // the model brought the template
}

func newChat(c *config, t *Tokenizer) *chat {
	ch := &chat{names: map[string]any{}}
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
	if c.template == "" {
		return ch.with(builtIn("chatml"))
	}
	ch = ch.with(c.template)
	ch.own = true
	return ch
}

// HasTemplate says that conversations are written with a template that the model brought, not with one of Templates.
func (t *Tokenizer) HasTemplate() bool { return t.chat.own }

// Render writes a conversation out: messages is a JSON list of {"role", "content", …}, tools a JSON list or nothing.
// With answer the text ends where an assistant begins to speak.
func (t *Tokenizer) Render(messages, tools json.RawMessage, answer bool) (string, error) {
	c, err := t.conversation(messages, tools)
	if err != nil {
		return "", err
	}
	text, _, err := c.render(c.messages, answer)
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

// chatPrefix is what precedes a conversation: models' templates write it themselves, shoal's do not.
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
	text, spans, err := c.render(c.messages, false)
	if err != nil {
		return nil, nil, err
	}
	if spans, err = c.said(text, spans); err != nil {
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
