package exam

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// letters is a tokenizer whose tokens are bytes.
type letters struct{}

func (letters) Prompt(s string) ([]int32, error) { return letters{}.Continue(s) }
func (letters) Continue(s string) (ids []int32, err error) {
	for _, b := range []byte(s) {
		ids = append(ids, int32(b))
	}
	return ids, nil
}

func text(ids []int32) string {
	b := make([]byte, len(ids))
	for i, id := range ids {
		b[i] = byte(id)
	}
	return string(b)
}

func opener(files map[string]string) Open {
	return func(path string) (io.ReadCloser, error) {
		s, ok := files[path]
		if !ok {
			return nil, errors.New("is not there")
		}
		return io.NopCloser(strings.NewReader(s)), nil
	}
}

func TestBuild(t *testing.T) {
	files := map[string]string{
		"q": `{"prompt": "a", "answer": "1"}` + "\n\n" + `{"prompt": "b", "answer": "2"}` + "\n" + `{"prompt": "c", "answer": "3"}`,
		"c": `{"prompt": "sky", "choices": [" red", " blue"], "answer": 1}`,
		"t": strings.Repeat("x", 60),
	}
	x, err := Build(job.Eval{Tasks: []job.Task{{Path: "q", FewShot: 2}, {Path: "c"}}, BaseText: "t", Samples: []string{"once"}}, opener(files), letters{}, 50)
	if err != nil {
		t.Fatal(err)
	}
	q := x.Tasks[0].Questions[1].Options[0]
	if got := text(q.IDs); got != "c3\n\na1\n\nb2" || text(q.IDs[q.From:]) != "2" || x.Tasks[0].Choice {
		t.Errorf("question 2 is %q, scored from %d", got, q.From)
	}
	c := x.Tasks[1]
	if o := c.Questions[0].Options[0]; !c.Choice || text(o.IDs) != "sky red" || o.Bytes != 4 || c.Questions[0].Answer != 1 {
		t.Errorf("%+v", c)
	}
	if len(x.Base) != 2 || len(x.Base[0]) != 50 || text(x.Samples[0].IDs) != "once" {
		t.Errorf("%+v", x)
	}
	b, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(bytes.NewReader(b), 256, 50)
	if err != nil || cmp.Diff(x, back) != "" {
		t.Errorf("%v %s", err, cmp.Diff(x, back))
	}
	if _, err := Decode(bytes.NewReader(b), 100, 50); err == nil {
		t.Error("tokens outside the vocabulary were taken")
	}
	if _, err := Decode(bytes.NewReader(b), 256, 10); err == nil {
		t.Error("texts beyond the limit were taken")
	}
}

func TestBuildRefuses(t *testing.T) {
	for rows, want := range map[string]string{
		``:                              "no questions",
		`{"prompt": "a"}`:               `"answer" is missing`,
		`{"answer": "a"}`:               `"prompt" is missing`,
		`{"prompt": "a", "answer": 3}`:  "is no text",
		`{"prompt": "a", "answer": ""}`: "is no text",
		`{"prompt": "a", "answer": "b"`: "line 1",
		`{"prompt": 1, "answer": "b"}`:  "line 1",
		`{"prompt": "a", "choices": ["x"], "answer": 0}`:                                                "write 2 to 64",
		`{"prompt": "a", "choices": ["x", "y"], "answer": 2}`:                                           "number of the right one",
		`{"prompt": "a", "choices": ["x", ""], "answer": 0}`:                                            "no tokens",
		`{"prompt": "a", "answer": "b"}` + "\n" + `{"prompt": "a", "choices": ["x", "y"], "answer": 0}`: "mixed",
		`{"prompt": "` + strings.Repeat("a", 50) + `", "answer": "b"}`:                                  "lower fewshot",
	} {
		_, err := Build(job.Eval{Tasks: []job.Task{{Path: "f"}}}, opener(map[string]string{"f": rows}), letters{}, 40)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "eval.tasks.0.path") {
			t.Errorf("%s: %v, want %q", rows, err, want)
		}
	}
	if _, err := Build(job.Eval{Tasks: []job.Task{{Path: "f", FewShot: 1}}}, opener(map[string]string{"f": `{"prompt": "a", "answer": "b"}`}), letters{}, 40); err == nil {
		t.Error("a question was its own example")
	}
}

func FuzzBuild(f *testing.F) {
	f.Add([]byte(`{"prompt": "a", "choices": ["x", "y"], "answer": 1}`+"\n"+`{"prompt": "b", "choices": ["x", "y"], "answer": 0}`), 1)
	f.Add([]byte(`{"prompt": "a", "answer": "b"}`), 0)
	f.Fuzz(func(t *testing.T, data []byte, shots int) {
		open := opener(map[string]string{"f": string(data)})
		x, err := Build(job.Eval{Tasks: []job.Task{{Path: "f", FewShot: min(max(shots, 0), 8)}}, BaseText: "f", Samples: []string{"x"}}, open, letters{}, 64)
		if err != nil {
			return
		}
		if err := x.check(256, 64); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"tasks":[{"name":"q","questions":[{"options":[{"ids":[1,2],"from":1,"bytes":1}],"answer":0}]}],"base":[[1]],"samples":[{"prompt":"x","ids":[3]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if x, err := Decode(bytes.NewReader(data), 16, 16); err == nil {
			if _, err := x.Encode(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
