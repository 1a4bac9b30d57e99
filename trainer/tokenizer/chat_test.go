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
			"the chat template writes message 1 differently once others follow, so what it adds is not known; use a template with {% generation %} tags, or a built-in one, as chat_template: chatml",
		},
		"template refuses": {
			"{{ raise_exception('roles must alternate') }}", talk, "template line 1: roles must alternate",
		},
		"template broken": {"{% for %}", talk, "the chat template is not readable: template line 1: want a name, got the end of the tag"},
		"header of the assistant's own": { // the model is given nothing, so it has to learn to say the header
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}", talk,
			"<user>hi</s>[<assistant>yo</s>]<user>and</s>[<assistant> so</s>]",
		},
		"another invitation that begins alike": {
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>yonder{% endif %}", talk,
			"<user>hi</s><assistant>[yo</s>]<user>and</s><assistant>[ so</s>]",
		},
		"EOS after the last message": {
			"{% for m in messages %}<{{ m.role }}>{{ m.content }}|\n{% endfor %}{{ '<assistant>' if add_generation_prompt else eos_token }}", talk,
			"<user>hi|\n<assistant>[yo|\n]<user>and|\n<assistant>[ so|\n</s>]",
		},
		"system prompt added": {
			"{% if messages[0].role != 'system' %}<system>S</s>{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}", talk,
			"<system>S</s><user>hi</s><assistant>[yo</s>]<user>and</s><assistant>[so</s>]",
		},
		"system prompt in the last question": {
			"{% for m in messages %}{% if m.role == 'user' %}{{ 'S' if loop.last or loop.nextitem == messages[-1] }}Q{{ m.content }}{% else %}A{{ m.content }}{% endif %}{% endfor %}", talk,
			"the chat template writes message 1 differently once others follow, so what it adds is not known; use a template with {% generation %} tags, or a built-in one, as chat_template: chatml",
		},
		"parts": {"", `[{"role":"user","content":[{"type":"text","text":"a"},"b"]},{"role":"assistant","content":[{"type":"text","text":"c"}]}]`,
			"<s><|im_start|>user\nab</s>\n<|im_start|>assistant\n[c</s>]\n"},
		"picture": {"", `[{"role":"user","content":[{"type":"image_url"}]}]`, "message 0: part 0 of its content is no text; models here read text alone"},
		"calls": {"", `[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":"{\"x\": [1]}"}}]},{"role":"tool","content":"r"},{"role":"assistant","content":"d"}]`,
			"<s><|im_start|>user\na</s>\n<|im_start|>assistant\n[<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1]}}\n</tool_call></s>]\n" +
				"<|im_start|>user\n<tool_response>\nr\n</tool_response></s>\n<|im_start|>assistant\n[d</s>]\n"},
		"calls as text": { // a template that wants arguments as a string
			"{% for m in messages %}{% for c in m.tool_calls or [] %}{{ '!' + c.function.arguments }}{% endfor %}{{ m.content or '' }}{% endfor %}",
			`[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"x": [1]}}}]}]`, `a[!{"x": [1]}]`,
		},
		"no call": {"", `[{"role": "assistant", "content": "", "tool_calls": [1]}]`, "message 0: tool call 0 names no function"},
		"template without calls": {"{{ messages[0].content }}", `[{"role": "assistant", "content": "", "tool_calls": [1]}]`,
			"message 0: the chat template does not write tool_calls, so they would be lost; choose one that does, as chat_template: chatml"},
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

// TestBuiltIn writes a conversation with each of the templates that shoal has itself.
func TestBuiltIn(t *testing.T) {
	const conversation = `[{"role":"system","content":"S"},{"role":"user","content":"hi"},{"role":"assistant","content":"yo"},{"role":"user","content":"and"},{"role":"assistant","content":"so"}]`
	model := byteTokenizer(t, "{{ messages[0].content }}")
	for name, want := range map[string]string{
		"chatml":  "<s><|im_start|>system\nS</s>\n<|im_start|>user\nhi</s>\n<|im_start|>assistant\n[yo</s>]\n<|im_start|>user\nand</s>\n<|im_start|>assistant\n[so</s>]\n",
		"llama3":  "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n[yo<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\nand<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n[so<|eot_id|>]",
		"mistral": "<s>[INST] S\n\nhi[/INST][ yo</s>][INST] and[/INST][ so</s>]",
		"gemma":   "<s><start_of_turn>user\nS\n\nhi<end_of_turn>\n<start_of_turn>model\n[yo<end_of_turn>]\n<start_of_turn>user\nand<end_of_turn>\n<start_of_turn>model\n[so<end_of_turn>]\n",
		"phi3":    "<s><|system|>\nS<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\n[yo<|end|>]\n<|user|>\nand<|end|>\n<|assistant|>\n[so<|end|>]\n",
		"alpaca":  "<s>S\n\n### Instruction:\nhi\n\n### Response:\n[yo</s>]\n\n### Instruction:\nand\n\n### Response:\n[so</s>]",
	} {
		tok, err := model.WithTemplate(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := said(t, tok, conversation); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", name, got, want)
		}
		if tok.HasTemplate() || !model.HasTemplate() {
			t.Errorf("%s: the model's own template is not told from shoal's", name)
		}
	}
	for _, name := range []string{"", DefaultTemplate} {
		if tok, err := model.WithTemplate(name); tok != model || err != nil {
			t.Errorf("%q: %v, %v", name, tok, err)
		}
	}
	if _, err := model.WithTemplate("../chatml"); err == nil || !strings.Contains(err.Error(), "choose tokenizer_default or chatml") {
		t.Error(err)
	}
}
