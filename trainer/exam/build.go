package exam

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// Tokenizer is what Build needs of one.
type Tokenizer interface {
	Prompt(text string) ([]int32, error)   // the beginning of a text
	Continue(text string) ([]int32, error) // text that goes on
}

// Bounds of what a job may ask.
const (
	maxFile      = 64 << 20 // bytes
	maxLine      = 1 << 20  // bytes
	maxQuestions = 10000    // per file
	maxOptions   = 64
	basePieces   = 64
	baseTokens   = 512 // per piece
)

// Open opens a file that a spec names.
type Open func(path string) (io.ReadCloser, error)

// Build reads what spec names, in tokens of tok, for a model that takes limit tokens at a time.
func Build(spec job.Eval, open Open, tok Tokenizer, limit int) (*Exam, error) {
	b := builder{tok: tok, limit: limit}
	var x Exam
	for i, t := range spec.Tasks {
		task, err := b.task(t, open)
		if err != nil {
			return nil, fmt.Errorf("eval.tasks.%d.path: %s: %w", i, t.Path, err)
		}
		x.Tasks = append(x.Tasks, task)
	}
	if spec.BaseText != "" {
		var err error
		if x.Base, err = b.base(spec.BaseText, open); err != nil {
			return nil, fmt.Errorf("eval.base_text: %s: %w", spec.BaseText, err)
		}
	}
	for i, prompt := range spec.Samples {
		ids, err := tok.Prompt(prompt)
		if err == nil && (len(ids) == 0 || len(ids) >= limit) {
			err = fmt.Errorf("has %d tokens; write at least one and fewer than the model's limit of %d", len(ids), limit)
		}
		if err != nil {
			return nil, fmt.Errorf("eval.samples.%d: %w", i, err)
		}
		x.Samples = append(x.Samples, Sample{prompt, ids})
	}
	return &x, nil
}

type builder struct {
	tok   Tokenizer
	limit int
}

// base cuts a text into pieces.
func (b *builder) base(path string, open Open) (out [][]int32, err error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLine)) // more than the pieces take
	if err != nil {
		return nil, err
	}
	ids, err := b.tok.Prompt(string(bytes.ToValidUTF8(text, nil)))
	if err != nil {
		return nil, err
	}
	if len(ids) < 2 {
		return nil, errors.New("has no text to measure")
	}
	for n := min(b.limit, baseTokens); len(ids) > 1 && len(out) < basePieces; ids = ids[min(n, len(ids)):] {
		out = append(out, ids[:min(n, len(ids))])
	}
	return out, nil
}

// row is a line of a file of questions.
type row struct {
	prompt  string
	choices []string
	answer  int
	text    string // of the right answer
}

func (b *builder) task(t job.Task, open Open) (Task, error) {
	f, err := open(t.Path)
	if err != nil {
		return Task{}, err
	}
	defer f.Close()
	rows, err := readRows(f)
	if err != nil {
		return Task{}, err
	}
	if t.FewShot >= len(rows) {
		return Task{}, fmt.Errorf("fewshot is %d but the file has %d questions; lower it, a question is no example for itself", t.FewShot, len(rows))
	}
	task := Task{Name: filepath.Base(t.Path), Choice: rows[0].choices != nil}
	for i := range rows {
		q, err := b.question(rows, i, t.FewShot)
		if err != nil {
			return Task{}, fmt.Errorf("question %d: %w", i+1, err)
		}
		task.Questions = append(task.Questions, q)
	}
	return task, nil
}

func (b *builder) question(rows []row, i, shots int) (Question, error) {
	text := ""
	for k := range shots {
		demo := rows[(i+1+k)%len(rows)]
		text += demo.prompt + demo.text + "\n\n"
	}
	r := rows[i]
	prompt, err := b.tok.Prompt(text + r.prompt)
	if err != nil {
		return Question{}, err
	}
	options, answer := r.choices, r.answer
	if options == nil {
		options = []string{r.text}
	}
	q := Question{Answer: answer}
	for _, o := range options {
		rest, err := b.tok.Continue(o)
		if err != nil {
			return Question{}, err
		}
		ids := append(append([]int32(nil), prompt...), rest...)
		switch {
		case len(prompt) == 0 || len(rest) == 0:
			return Question{}, errors.New("prompt or answer has no tokens")
		case len(ids) > b.limit:
			return Question{}, fmt.Errorf("has %d tokens with %d examples before it, more than the %d that the model takes; lower fewshot or shorten the row", len(ids), shots, b.limit)
		}
		q.Options = append(q.Options, Option{IDs: ids, From: len(prompt), Bytes: len(o)})
	}
	return q, nil
}

func readRows(r io.Reader) (rows []row, err error) {
	s := bufio.NewScanner(io.LimitReader(r, maxFile))
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		v, err := parseRow(s.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(rows) > 0 && (v.choices == nil) != (rows[0].choices == nil) {
			return nil, fmt.Errorf("line %d: rows with choices and rows without are mixed; put them into files of their own", n)
		}
		if rows = append(rows, v); len(rows) > maxQuestions {
			return nil, fmt.Errorf("more than %d questions; take a part of them", maxQuestions)
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("has no questions")
	}
	return rows, nil
}

func parseRow(line []byte) (r row, err error) {
	var v struct {
		Prompt  *string         `json:"prompt"`
		Choices []string        `json:"choices"`
		Answer  json.RawMessage `json:"answer"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return r, err
	}
	switch {
	case v.Prompt == nil || *v.Prompt == "":
		return r, errors.New(`"prompt" is missing; rows are {"prompt", "answer"} or {"prompt", "choices", "answer"}`)
	case v.Answer == nil:
		return r, errors.New(`"answer" is missing; write the text, or with choices the number of the right one, from 0`)
	case len(v.Choices) == 1 || len(v.Choices) > maxOptions:
		return r, fmt.Errorf(`"choices" has %d entries; write 2 to %d`, len(v.Choices), maxOptions)
	}
	r = row{prompt: *v.Prompt, choices: v.Choices}
	if v.Choices == nil {
		if err := json.Unmarshal(v.Answer, &r.text); err != nil || r.text == "" {
			return r, errors.New(`"answer" is no text; without choices it is what the model should say`)
		}
		return r, nil
	}
	if err := json.Unmarshal(v.Answer, &r.answer); err != nil || r.answer < 0 || r.answer >= len(v.Choices) {
		return r, fmt.Errorf(`"answer" is %.40s; with %d choices write the number of the right one, from 0`, v.Answer, len(v.Choices))
	}
	r.text = v.Choices[r.answer]
	return r, nil
}
