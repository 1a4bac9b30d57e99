package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestQwen2Chat(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(shared(t, "tokenizers"), "expected", "qwen2_chat.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Messages json.RawMessage
		Text     string
		IDs      []int32
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	tok, err := LoadDir(shared(t, "tokenizers/qwen2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		got, err := tok.Render(c.Messages, nil, false)
		if err != nil || got != c.Text {
			t.Errorf("%s\ngot  %q, %v\nwant %q", c.Messages, got, err, c.Text)
		}
		ids, err := tok.ChatPrompt(c.Messages, nil)
		if err != nil || !slices.Equal(ids, c.IDs) {
			t.Errorf("%s\ngot  %v, %v\nwant %v", c.Messages, ids, err, c.IDs)
		}
	}
	ids, said, err := tok.Chat(cases[1].Messages, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids, cases[1].IDs) {
		t.Errorf("Chat: %v", ids)
	}
	var learned []int32
	for i, id := range ids {
		if said[i] {
			learned = append(learned, id)
		}
	}
	if got := tok.DecodeAll(learned); got != "4<|im_end|>" {
		t.Errorf("learned %q", got)
	}
}

// said marks what an assistant says with brackets.
func said(t *testing.T, tok *Tokenizer, messages string) string {
	t.Helper()
	ids, said, err := tok.Chat(json.RawMessage(messages), nil)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	d := tok.Decoder()
	d.special = true
	for i, id := range ids {
		if said[i] && (i == 0 || !said[i-1]) {
			b.WriteString("[")
		}
		b.WriteString(d.Next(id))
		if said[i] && (i+1 == len(ids) || !said[i+1]) {
			b.WriteString("]")
		}
	}
	return b.String()
}

const talk = `[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"},{"role":"user","content":"and"},{"role":"assistant","content":" so"}]`

func TestChatMasks(t *testing.T) {
	for name, tc := range map[string]struct{ template, messages, want string }{
		"no template": {
			"", talk,
			"<s><|im_start|>user\nhi</s>\n<|im_start|>assistant\n[yo</s>]\n<|im_start|>user\nand</s>\n<|im_start|>assistant\n[ so</s>]\n",
		},
		"turns": {
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}", talk,
			"<user>hi</s><assistant>[yo</s>]<user>and</s><assistant>[ so</s>]",
		},
		"trimmed, with BOS": {
			"{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content | trim }}\nA:{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}", talk,
			"<s>Q: hi\nA:[ yo</s>]Q: and\nA:[ so</s>]",
		},
		"generation tags": {
			"{% for m in messages %}{% if m.role == 'assistant' %}A{% generation %}{{ m.content }}</s>\n{% endgeneration %}{% else %}U{{ m.content }}{% endif %}{% endfor %}", talk,
			"UhiA[yo</s>]\nUandA[ so</s>]\n",
		},
		"a longer invitation": {
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant><think>{% endif %}", talk,
			"<user>hi</s><assistant>[yo</s>]<user>and</s><assistant>[ so</s>]",
		},
		"weights": {
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
			`[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0},{"role":"assistant","content":"c","weight":1}]`,
			"<user>a</s><assistant>b</s><assistant>[c</s>]",
		},
		"weights and tags": {
			"{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
			`[{"role":"assistant","content":"b","weight":0},{"role":"assistant","content":"c"}]`, "b[c]",
		},
		"assistant first": {
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}", `[{"role":"assistant","content":"b"}]`, "<assistant>[b</s>]",
		},
		"earlier turns change": {
			"{% for m in messages %}{{ m.content if loop.last else '-' }}{% endfor %}", talk,
			"the chat template writes message 1 differently once others follow, so what it adds is not known; use a template with {% generation %} tags",
		},
		"template refuses": {
			"{{ raise_exception('roles must alternate') }}", talk, "template line 1: roles must alternate",
		},
		"template broken": {"{% for %}", talk, "the model's chat template is not readable: template line 1: want a name, got the end of the tag"},
		"no template for tools": {
			"", `[{"role": "assistant", "content": "", "tool_calls": [1]}]`,
			"template line 3: the model has no chat template, and without one a message is text alone",
		},
		"no messages":       {"", "[]", "messages is not a list with a message in it"},
		"not messages":      {"", `{"role": 1}`, "messages is not a list with a message in it"},
		"no role":           {"", `[{"content": "x"}]`, "message 0: it has no role"},
		"role no string":    {"", `[{"role": 1, "content": "x"}]`, "message 0: its role is not a string"},
		"no content":        {"", `[{"role": "user"}]`, "message 0: it has neither content nor tool_calls"},
		"too many":          {"", "[" + strings.Repeat(`{"role":"user","content":""},`, 600) + `{"role":"user","content":""}]`, "a conversation of 601 messages; at most 512"},
		"message no object": {"", `[1]`, "message 0: not an object"},
	} {
		t.Run(name, func(t *testing.T) {
			tok := byteTokenizer(t, tc.template)
			if got := said(t, tok, tc.messages); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}
