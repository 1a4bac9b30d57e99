// Package exam is what a model is asked while it learns: questions with known answers, a text that it should not forget,
// prompts to continue. An Exam is pure data, tokens already, so that it can be stored and asked again by whoever has the
// model (trainer.Measure asks). Build makes one of the files that a job names.
//
// A file of questions has a JSON object per line. Rows with choices are answered by the option that the model finds most
// likely; rows without by what it says next:
//
//	{"prompt": "The sky is", "choices": [" blue.", " square."], "answer": 0}
//	{"prompt": "2 + 2 =", "answer": " 4"}
//
// Before question i stand, solved, the questions i+1, i+2, … of the same file, around its end: the same at every
// measurement and on every machine, and never the question itself.
package exam

import (
	"encoding/json"
	"fmt"
	"io"
)

// Exam is everything that is asked.
type Exam struct {
	Tasks   []Task    `json:"tasks,omitempty"`
	Base    [][]int32 `json:"base,omitempty"` // pieces of a text whose loss shows what is forgotten
	Samples []Sample  `json:"samples,omitempty"`
}

// Task is a file of questions, all of one kind.
type Task struct {
	Name      string     `json:"name"`
	Choice    bool       `json:"choice"` // options are compared; else there is one, and it has to be what the model says
	Questions []Question `json:"questions"`
}

// Question has one option or several, of which Answer is right.
type Question struct {
	Options []Option `json:"options"`
	Answer  int      `json:"answer"`
}

// Option is a whole text; what is scored of it begins at token From.
type Option struct {
	IDs   []int32 `json:"ids"`
	From  int     `json:"from"`
	Bytes int     `json:"bytes"` // length of what is scored, as text
}

// Sample is a prompt to continue.
type Sample struct {
	Prompt string  `json:"prompt"`
	IDs    []int32 `json:"ids"`
}

// Empty: nothing is asked.
func (x *Exam) Empty() bool {
	return x == nil || len(x.Tasks) == 0 && len(x.Base) == 0 && len(x.Samples) == 0
}

// maxExam bounds an exam as JSON, bytes.
const maxExam = 256 << 20

// Encode writes the exam.
func (x *Exam) Encode() ([]byte, error) { return json.Marshal(x) }

// Decode reads an exam of a model with vocab tokens, of at most limit tokens at a time, and checks all of it.
func Decode(r io.Reader, vocab, limit int) (*Exam, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxExam+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxExam {
		return nil, fmt.Errorf("exam has more than %d bytes", maxExam)
	}
	var x Exam
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("exam: %w", err)
	}
	return &x, x.check(vocab, limit)
}

func (x *Exam) check(vocab, limit int) error {
	for _, t := range x.Tasks {
		for i, q := range t.Questions {
			if err := q.check(vocab, limit); err != nil {
				return fmt.Errorf("exam: %.60q, question %d: %w", t.Name, i+1, err)
			}
		}
	}
	for _, ids := range x.Base {
		if err := checkIDs(ids, vocab, limit); err != nil {
			return fmt.Errorf("exam: base text: %w", err)
		}
	}
	for _, s := range x.Samples {
		if err := checkIDs(s.IDs, vocab, limit); err != nil {
			return fmt.Errorf("exam: sample: %w", err)
		}
	}
	return nil
}

func (q Question) check(vocab, limit int) error {
	if q.Answer < 0 || q.Answer >= len(q.Options) {
		return fmt.Errorf("answer %d of %d options", q.Answer, len(q.Options))
	}
	for _, o := range q.Options {
		if err := checkIDs(o.IDs, vocab, limit); err != nil {
			return err
		}
		if o.From < 1 || o.From >= len(o.IDs) || o.Bytes < 1 {
			return fmt.Errorf("%d tokens to score from token %d on", len(o.IDs), o.From)
		}
	}
	return nil
}

func checkIDs(ids []int32, vocab, limit int) error {
	if len(ids) == 0 || len(ids) > limit {
		return fmt.Errorf("%d tokens; at least one, at most %d", len(ids), limit)
	}
	for _, id := range ids {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("token %d of a vocabulary of %d", id, vocab)
		}
	}
	return nil
}
