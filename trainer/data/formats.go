package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tokenizer is what rows of text need; trainer/tokenizer has it.
type Tokenizer interface {
	// Prompt encodes the start of a text, with what the tokenizer's config puts before it (BOS).
	Prompt(text string) ([]int32, error)
	// Continue encodes text that goes on where other text ended.
	Continue(text string) ([]int32, error)
	// EOS is the token that ends a text, and its spelling.
	EOS() (id int32, text string, ok bool)
	// Chat renders a conversation (a JSON list of messages, and of tools or nothing) with the chat template, encodes
	// it, and marks the tokens that an assistant said.
	Chat(messages, tools json.RawMessage) (ids []int32, said []bool, err error)
}

// formats are tried in this order; the first whose keys are all there is taken.
//
//	tokens      {"input_ids": [...], "labels"?: [...]}: used as they are; without labels, everything is learned
//	messages    {"messages": [{"role", "content", "weight"?, "tool_calls"?}], "tools"?}: what assistants say is learned,
//	            with the token that ends their turn; weight 0 leaves one out
//	sharegpt    {"conversations": [{"from", "value"}], "system"?, "tools"?}: the same in ShareGPT's words
//	alpaca      {"instruction", "input"?, "output"}: the output and EOS are learned
//	completion  {"prompt", "completion"}, strings or lists of messages: the completion and EOS are learned
//	text        {"text"}: everything is learned, EOS too
var formats = []struct {
	name, needs string
	read        func(*rowReader, row) (Example, error)
}{
	{"tokens", "input_ids", (*rowReader).tokens},
	{"messages", "messages", (*rowReader).messages},
	{"sharegpt", "conversations", (*rowReader).conversations},
	{"alpaca", "instruction output", (*rowReader).alpaca},
	{"completion", "prompt completion", (*rowReader).completion},
	{"text", "text", (*rowReader).text},
}

// row is one line of a file, by key.
type row map[string]json.RawMessage

// rowReader turns lines into positions. What the first row of a file looks like decides how the others are read.
type rowReader struct {
	tok   Tokenizer // nil: only rows of tokens
	limit int       // tokens of a position
	vocab int       // ids are below it; 0: unknown
	all   bool      // learn prompts as well
	typ   string    // asked for, or empty
	read  func(*rowReader, row) (Example, error)
}

// parseRow refuses what is no UTF-8: the JSON reader would put U+FFFD for each such byte, and the model learn that.
func parseRow(line []byte) (f row, err error) {
	switch line = bytes.TrimSpace(line); {
	case !utf8.Valid(line):
		return nil, errors.New("not UTF-8; convert the file, as with iconv -f latin1 -t utf8")
	case bytes.HasPrefix(line, []byte("[")):
		return nil, errors.New("a JSON array, not an object; write one object per line, as jq -c '.[]' does")
	}
	if err := json.Unmarshal(line, &f); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	return f, nil
}

// example reads one line. cut is the number of tokens beyond the limit.
func (r *rowReader) example(line []byte) (e Example, cut int, err error) {
	f, err := parseRow(line)
	if err != nil {
		return Example{}, 0, err
	}
	if r.read == nil {
		if err := r.detect(f); err != nil {
			return Example{}, 0, err
		}
	}
	if e, err = r.read(r, f); err != nil {
		return Example{}, 0, err
	}
	if len(e.IDs) == 0 {
		return Example{}, 0, errors.New("no tokens in this row")
	}
	if cut = max(len(e.IDs)-r.limit, 0); cut > 0 {
		e.IDs, e.Labels = e.IDs[:r.limit], e.Labels[:r.limit]
	}
	return e, cut, nil
}

func (r *rowReader) detect(f row) error {
	if f.hasAll("chosen rejected") {
		return errors.New("rows of preferences (chosen, rejected) are not for supervised fine-tuning")
	}
	for _, o := range formats {
		if r.asks(o.name) && f.hasAll(o.needs) {
			if r.tok == nil && o.name != "tokens" {
				return fmt.Errorf("rows of %s need a tokenizer; the base model has none", o.name)
			}
			r.read = o.read
			return nil
		}
	}
	for _, o := range formats {
		if r.typ == o.name {
			return fmt.Errorf("not a row of type %s: %s; it has %s", r.typ, f.lacks(o.needs), f.keys())
		}
	}
	return fmt.Errorf("no known kind of row: it has %s; a row has messages, conversations, instruction and output, prompt and completion, text, or input_ids", f.keys())
}

// asks says that rows of the format name are asked for. Those of ShareGPT are messages too.
func (r *rowReader) asks(name string) bool {
	return r.typ == "" || r.typ == name || r.typ == "messages" && name == "sharegpt"
}

// lacks names the first of keys that is missing.
func (f row) lacks(keys string) string {
	for k := range strings.FieldsSeq(keys) {
		if _, ok := f[k]; !ok {
			return fmt.Sprintf("the key %q is missing", k)
		}
	}
	return "its keys do not fit"
}

// keys lists the keys of a row for messages.
func (f row) keys() string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(f)) {
		if out = append(out, fmt.Sprintf("%.40q", k)); len(out) == 10 {
			break
		}
	}
	if len(out) == 0 {
		return "no keys"
	}
	return strings.Join(out, ", ")
}

func (f row) hasAll(keys string) bool {
	for k := range strings.FieldsSeq(keys) {
		if _, ok := f[k]; !ok {
			return false
		}
	}
	return true
}

// str reads a string; optional keys may be missing or null.
func (f row) str(key string, optional bool) (string, error) {
	raw, ok := f[key]
	if optional && (!ok || string(raw) == "null") {
		return "", nil
	}
	if !ok {
		return "", fmt.Errorf("the key %q is missing; the row has %s", key, f.keys())
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", fmt.Errorf("%q is not a string", key)
	}
	return *s, nil
}

func (r *rowReader) tokens(f row) (Example, error) {
	var e Example
	if err := json.Unmarshal(f["input_ids"], &e.IDs); err != nil {
		return Example{}, fmt.Errorf("input_ids: %w", err)
	}
	raw, ok := f["labels"]
	if !ok || string(raw) == "null" {
		e.Labels = e.IDs
	} else if err := json.Unmarshal(raw, &e.Labels); err != nil {
		return Example{}, fmt.Errorf("labels: %w", err)
	}
	if len(e.Labels) != len(e.IDs) {
		return Example{}, fmt.Errorf("%d labels beside %d input_ids", len(e.Labels), len(e.IDs))
	}
	for t, id := range e.IDs {
		l := e.Labels[t]
		if bad := func(v int32) bool { return v < 0 || r.vocab > 0 && int(v) >= r.vocab }; bad(id) || l != Ignore && bad(l) {
			return Example{}, fmt.Errorf("token %d has id %d and label %d; ids are 0 to %d", t, id, l, r.maxID())
		}
	}
	return e, nil
}

func (r *rowReader) maxID() int {
	if r.vocab > 0 {
		return r.vocab - 1
	}
	return maxID
}

func (r *rowReader) text(f row) (Example, error) {
	text, err := f.str("text", false)
	if err != nil {
		return Example{}, err
	}
	ids, err := r.tok.Prompt(text)
	if err != nil {
		return Example{}, err
	}
	ids = r.end(ids)
	return Example{IDs: ids, Labels: ids}, nil
}

func (r *rowReader) completion(f row) (Example, error) {
	if isList(f["prompt"]) && isList(f["completion"]) {
		return r.completionMessages(f)
	}
	prompt, err := f.str("prompt", false)
	if err != nil {
		return Example{}, err
	}
	completion, err := f.str("completion", false)
	if err != nil {
		return Example{}, err
	}
	return r.pair(prompt, completion)
}

// completionMessages learns the assistant turns of the completion alone.
func (r *rowReader) completionMessages(f row) (Example, error) {
	var prompt, completion []map[string]json.RawMessage
	if err := json.Unmarshal(f["prompt"], &prompt); err != nil {
		return Example{}, fmt.Errorf("prompt: %w", err)
	}
	if err := json.Unmarshal(f["completion"], &completion); err != nil {
		return Example{}, fmt.Errorf("completion: %w", err)
	}
	for _, m := range prompt {
		if m == nil {
			return Example{}, errors.New("prompt: a message is null")
		}
		m["weight"] = json.RawMessage("0")
	}
	all, err := json.Marshal(append(prompt, completion...))
	if err != nil {
		return Example{}, err
	}
	return r.chat(all, f["tools"])
}

func isList(raw json.RawMessage) bool {
	b := bytes.TrimSpace(raw)
	return len(b) > 0 && b[0] == '['
}

// alpaca is the prompt of Stanford's Alpaca, word for word: models were tuned on it.
func (r *rowReader) alpaca(f row) (Example, error) {
	instruction, err := f.str("instruction", false)
	if err != nil {
		return Example{}, err
	}
	input, err := f.str("input", true)
	if err != nil {
		return Example{}, err
	}
	output, err := f.str("output", false)
	if err != nil {
		return Example{}, err
	}
	return r.pair(AlpacaPrompt(instruction, input), output)
}

// AlpacaPrompt is the text that precedes the output of a row of type alpaca.
func AlpacaPrompt(instruction, input string) string {
	if input == "" {
		return "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n" +
			"### Instruction:\n" + instruction + "\n\n### Response:\n"
	}
	return "Below is an instruction that describes a task, paired with an input that provides further context. " +
		"Write a response that appropriately completes the request.\n\n" +
		"### Instruction:\n" + instruction + "\n\n### Input:\n" + input + "\n\n### Response:\n"
}

// pair encodes prompt and completion apart, because that is how the model will meet them: no token spans the border.
func (r *rowReader) pair(prompt, completion string) (Example, error) {
	ids, err := r.tok.Prompt(prompt)
	if err != nil {
		return Example{}, err
	}
	border := len(ids)
	if _, eos, ok := r.tok.EOS(); ok {
		completion = strings.TrimSuffix(completion, eos) // some files write it out
	}
	rest, err := r.tok.Continue(completion)
	if err != nil {
		return Example{}, err
	}
	ids = r.end(append(ids, rest...))
	labels := append([]int32(nil), ids...)
	for t := 0; t < border && !r.all; t++ {
		labels[t] = Ignore
	}
	return Example{IDs: ids, Labels: labels}, nil
}

// end appends EOS: a model that never learned to stop does not stop.
func (r *rowReader) end(ids []int32) []int32 {
	eos, _, ok := r.tok.EOS()
	if !ok || len(ids) > 0 && ids[len(ids)-1] == eos {
		return ids
	}
	return append(ids, eos)
}
