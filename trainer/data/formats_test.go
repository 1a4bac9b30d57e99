package data

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/tokenizertest"
)

func byteTokenizer(t testing.TB, o tokenizertest.Options) *tokenizer.Tokenizer {
	t.Helper()
	files, err := tokenizertest.Files(o)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	tok, err := tokenizer.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// show spells a position with brackets around what is learned.
func show(tok *tokenizer.Tokenizer, e Example) string {
	var b strings.Builder
	for t, id := range e.IDs {
		learned := e.Labels[t] != Ignore
		if learned && (t == 0 || e.Labels[t-1] == Ignore) {
			b.WriteString("[")
		}
		b.WriteString(tok.DecodeAll([]int32{id}))
		if learned && (t+1 == len(e.IDs) || e.Labels[t+1] == Ignore) {
			b.WriteString("]")
		}
	}
	return b.String()
}

func TestFormats(t *testing.T) {
	tok := byteTokenizer(t, tokenizertest.Options{})
	const instruct = "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
	const paired = "<s>Below is an instruction that describes a task, paired with an input that provides further context. " +
		"Write a response that appropriately completes the request.\n\n"
	const chat = "<s><|im_start|>user\nhi</s>\n<|im_start|>assistant\n[yo</s>]\n"
	const call = "<s><|im_start|>user\nhi</s>\n<|im_start|>assistant\n[<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"<1>\"}}\n</tool_call></s>]\n" +
		"<|im_start|>user\n<tool_response>\nr\n</tool_response></s>\n<|im_start|>assistant\n[yo</s>]\n"
	const tools = "<s><|im_start|>system\nThese functions can be called, one per line between the tags:\n<tools>\n" +
		"{\"type\": \"function\", \"function\": {\"name\": \"f\"}}\n</tools>\nA call is written as <tool_call>\n" +
		"{\"name\": ..., \"arguments\": {...}}\n</tool_call></s>\n"
	for name, tc := range map[string]struct {
		row, want string
		o         Options
	}{
		"text":               {`{"text": "ab"}`, "[<s>ab</s>]", Options{}},
		"text, cut":          {`{"text": "abcdef"}`, "[<s>abc]", Options{SequenceLen: 4}},
		"completion":         {`{"prompt": "1+1=", "completion": " 2"}`, "<s>1+1=[ 2</s>]", Options{}},
		"completion, EOS":    {`{"prompt": "1+1=", "completion": "2</s>"}`, "<s>1+1=[2</s>]", Options{}},
		"completion, all":    {`{"prompt": "1+1=", "completion": "2"}`, "[<s>1+1=2</s>]", Options{TrainOnInputs: true}},
		"completion, chat":   {`{"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "yo"}]}`, chat, Options{}},
		"completion, before": {`{"prompt": [{"role": "assistant", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}`, "<s><|im_start|>assistant\na</s>\n<|im_start|>assistant\n[b</s>]\n", Options{}},
		"alpaca":             {`{"instruction": "Add.", "input": "1 1", "output": "2"}`, paired + "### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n[2</s>]", Options{}},
		"alpaca, no input":   {`{"instruction": "Sing.", "output": "la", "input": ""}`, instruct + "### Instruction:\nSing.\n\n### Response:\n[la</s>]", Options{}},
		"alpaca, null input": {`{"instruction": "Sing.", "output": "la", "input": null}`, instruct + "### Instruction:\nSing.\n\n### Response:\n[la</s>]", Options{}},
		"messages":           {`{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}`, chat, Options{}},
		"messages, null":     {`{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], "tools": null}`, chat, Options{}},
		"sharegpt":           {`{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}`, chat, Options{}},
		"sharegpt, roles":    {`{"conversations": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}`, chat, Options{}},
		"sharegpt, as text":  {`{"conversations": "[{\"from\": \"human\", \"value\": \"hi\"}, {\"from\": \"gpt\", \"value\": \"yo\"}]"}`, chat, Options{}},
		"sharegpt, weight":   {`{"conversations": [{"from": "gpt", "value": "a", "weight": 0}, {"from": "gpt", "value": "yo"}]}`, "<s><|im_start|>assistant\na</s>\n<|im_start|>assistant\n[yo</s>]\n", Options{}},
		"sharegpt, call":     {`{"conversations": [{"from": "human", "value": "hi"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": \"<1>\"}}"}, {"from": "observation", "value": "r"}, {"from": "gpt", "value": "yo"}], "tools": "[]"}`, call, Options{}},
		"sharegpt, no call":  {`{"conversations": [{"from": "human", "value": "hi"}, {"from": "function_call", "value": "yo"}]}`, chat, Options{}},
		"tools":              {`{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], "tools": [{"name": "f"}]}`, tools + chat[3:], Options{}},
		"sharegpt, system":   {`{"system": "S", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}`, "<s><|im_start|>system\nS</s>\n" + chat[3:], Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			b, mem := build(t, tc.o, tok, text("a.jsonl", "", tc.row))
			if got := show(tok, readAll(t, mem, b.Train)[0]); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestMalformedText(t *testing.T) {
	tok := byteTokenizer(t, tokenizertest.Options{})
	for row, want := range map[string]string{
		`{"text": 3}`:                                                `"text" is not a string`,
		`{"text": null}`:                                             `"text" is not a string`,
		`{"prompt": "a", "completion": []}`:                          `"completion" is not a string`,
		`{"prompt": [null], "completion": []}`:                       "a message is null",
		`{"prompt": [1], "completion": []}`:                          "prompt: ",
		`{"instruction": "a", "output": null}`:                       `"output" is not a string`,
		`{"instruction": "a", "output": "b", "input": 1}`:            `"input" is not a string`,
		`{"messages": "x"}`:                                          "messages is not a list",
		`{"messages": [{"role": "user"}]}`:                           "neither content nor tool_calls",
		`{"messages": [{"role": "user", "content": 1}], "tools": [}`: "not a JSON object",
		`{"conversations": [{"from": "human"}]}`:                     "turn 0 lacks from or value",
		`{"messages": [], "chosen": {}, "rejected": {}}`:             "rows of preferences",
		`{"conversations": []}`:                                      "conversations is not a list",
		`{"messages": [], "tools": {}}`:                              "messages is not a list",
		`{"instruction": "a", "answer": "b"}`:                        `it has "answer", "instruction"; a row has messages`,
		"{\"text\": \"caf\xe9\"}":                                    "not UTF-8; convert the file",
		`[{"text": "a"}, {"text": "b"}]`:                             "write one object per line",
		`{"conversations": {}}`:                                      "conversations: ",
	} {
		_, err := Build(t.Context(), []Source{text("a.jsonl", "", row)}, tok, Options{}, shard.NewMem())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "a.jsonl:1: ") {
			t.Errorf("%s: got %v, want %q", row, err, want)
		}
	}
}

// TestMissingColumn: rows that lack what the first had, or what is asked for, are refused by key and line.
func TestMissingColumn(t *testing.T) {
	tok := byteTokenizer(t, tokenizertest.Options{})
	const alpaca = `{"instruction": "a", "output": "b"}`
	for _, tc := range []struct{ typ, rows, want string }{
		{"alpaca", `{"instruction": "a", "answer": "b"}`, `a.jsonl:1: not a row of type alpaca: the key "output" is missing; it has "answer", "instruction"`},
		{"", alpaca + "\n" + `{"instruction": "a", "answer": "b"}`, `a.jsonl:2: the key "output" is missing; the row has "answer", "instruction"`},
		{"", `{"messages": [{"role": "user", "content": "x"}]}` + "\n" + alpaca, `a.jsonl:2: the key "messages" is missing`},
		{"messages", alpaca, `a.jsonl:1: not a row of type messages: the key "messages" is missing`},
	} {
		_, err := Build(t.Context(), []Source{text("a.jsonl", tc.typ, tc.rows)}, tok, Options{}, shard.NewMem())
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

// TestRealFiles materialises real data with a real vocabulary: every row is readable and has something to learn.
func TestRealFiles(t *testing.T) {
	dir := shared(t)
	tok, err := tokenizer.LoadDir(filepath.Join(dir, "tokenizers", "qwen2"))
	if err != nil {
		t.Fatal(err)
	}
	for file, rows := range map[string]int{
		"instructions_alpaca_style.jsonl": 749, "instructions_seed_tasks.jsonl": 131,
		"qa_quoref_prompted.jsonl": 150, "toolcalls_sharegpt.jsonl": 225,
	} {
		b, _ := build(t, Options{SequenceLen: 2048}, tok, File(filepath.Join(dir, "jsonl", file), ""))
		s := b.Stats
		if s.Rows != rows || s.NoTarget > 0 || s.Skipped > 0 {
			t.Errorf("%s: %+v", file, s)
		}
	}
}

// TestReferenceRows materialises rows of ids as the reference curves use them: 200 of 128 ids, 127 targets each.
func TestReferenceRows(t *testing.T) {
	var in strings.Builder
	for i := range 200 {
		ids := make([]string, 128)
		for t := range ids {
			ids[t] = fmt.Sprint((i*7 + t) % 512)
		}
		fmt.Fprintf(&in, "{\"input_ids\":[%s]}\n", strings.Join(ids, ","))
	}
	b, mem := build(t, Options{ModelLimit: 512, Vocab: 512}, nil, text("a", "", in.String()))
	if d := cmp.Diff(Stats{Rows: 200, Tokens: 25600, Targets: 25400, Longest: 128}, b.Stats); d != "" {
		t.Error(d)
	}
	if e := readAll(t, mem, b.Train)[3]; e.IDs[0] != 21 || e.Labels[127] != e.IDs[127] {
		t.Errorf("%+v", e)
	}
}

func shared(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	path := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no test data: ../shared/data is not there")
	}
	return path
}

func FuzzRow(f *testing.F) {
	for _, s := range []string{
		`{"text": "ab"}`, `{"prompt": "a", "completion": "b"}`, `{"instruction": "a", "input": "", "output": "b"}`,
		`{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}`,
		`{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}`,
		`{"input_ids": [1, 2], "labels": [-100, 2]}`,
		`{"conversations": "[{\"role\": \"user\", \"content\": \"hi\"}]", "tools": "[{\"name\": \"f\"}]"}`,
		`{"conversations": [{"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}], "system": "S"}`,
		`{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}], "tools": [{}]}`,
	} {
		f.Add([]byte(s))
	}
	tok := byteTokenizer(f, tokenizertest.Options{})
	f.Fuzz(func(t *testing.T, line []byte) {
		r := &rowReader{tok: tok, limit: 64, vocab: tok.Size()}
		e, _, err := r.example(line)
		if err != nil {
			return
		}
		if len(e.IDs) == 0 || len(e.IDs) > 64 || len(e.Labels) != len(e.IDs) {
			t.Fatalf("%d ids, %d labels", len(e.IDs), len(e.Labels))
		}
		w := NewWriter(shard.NewMem())
		if err := w.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		b := appendPosition(nil, e, e.explicit())
		back, err := parsePosition(b, e.explicit())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, back); d != "" {
			t.Fatal(d)
		}
	})
}
