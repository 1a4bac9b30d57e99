package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDataset(t *testing.T) {
	f := newFake(t, map[string]string{
		"README.md": "no", "data/train-00000-of-00002.jsonl": "{\"text\":\"a\"}\n", "data/train-00001-of-00002.jsonl": "{\"text\":\"b\"}\n",
		"data/test.jsonl.gz": "z", "images/1.png": "no",
	})
	c := f.client()
	var got [2][]string
	for i := range got { // the second time from the cache alone
		names, err := c.Dataset(t.Context(), ref(t, "hf:o/n"), Split{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got[i] = append(got[i], filepath.Base(name)+" "+string(data))
		}
		f.mu.Lock()
		f.status = 503
		f.mu.Unlock()
		f.hub.CloseClientConnections()
		if i == 0 {
			f.hub.Close()
		}
	}
	want := []string{"train-00000-of-00002.jsonl {\"text\":\"a\"}\n", "train-00001-of-00002.jsonl {\"text\":\"b\"}\n"}
	if d := cmp.Diff([2][]string{want, want}, got); d != "" {
		t.Error(d)
	}
	if f.asked("test") != 0 || f.asked("README") != 0 || !strings.Contains(c.repo("datasets", ref(t, "o/n")).dir, "datasets--o--n") {
		t.Errorf("more was fetched than asked for: %v", f.requests)
	}
}

func TestSplits(t *testing.T) {
	for _, tc := range []struct {
		files string
		split Split
		want  string // names, or a part of the error
	}{
		{"data/train-0.parquet data/test-0.parquet train.jsonl", Split{Name: "train"}, "data/train-0.parquet"},
		{"train.jsonl valid.jsonl", Split{Name: "validation"}, "valid.jsonl"},
		{"train/0.parquet train/1.parquet dev/0.parquet", Split{Name: "train"}, "train/0.parquet train/1.parquet"},
		{"a.jsonl b.jsonl.zst", Split{Name: "train"}, "a.jsonl b.jsonl.zst"},
		{"data/train_sft-0.parquet data/train_gen-0.parquet", Split{Name: "train_sft"}, "data/train_sft-0.parquet"},
		{"main/train-0.parquet socratic/train-0.parquet", Split{Name: "train"}, "it has the parts main, socratic; choose one with name"},
		{"main/train-0.parquet socratic/train-0.parquet", Split{Name: "train", Subset: "main"}, "main/train-0.parquet"},
		{"main/train-0.parquet", Split{Name: "train", Subset: "minor"}, `it has no part "minor"; it has main`},
		{"train.jsonl test.jsonl", Split{Name: "dev"}, `it has no split "dev"; it has test, train`},
		{"a.csv", Split{Name: "train"}, "neither parquet tables nor JSON lines"},
		{"../train.jsonl .hidden/train.jsonl /train.jsonl a//train.jsonl", Split{Name: "train"}, "neither parquet"},
		{"constraint.jsonl", Split{Name: "test"}, `it has no split "test"`},
	} {
		l := &listing{files: map[string]file{}}
		for name := range strings.FieldsSeq(tc.files) {
			l.files[name] = file{name: name, hash: strings.Repeat("0", 40)}
		}
		files, err := l.rows(tc.split)
		var got []string
		for _, f := range files {
			got = append(got, f.name)
		}
		if s := strings.Join(got, " "); err == nil && s != tc.want || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, %v: %q, %v; want %s", tc.files, tc.split, s, err, tc.want)
		}
	}
	if _, err := newFake(t, nil).client().Dataset(t.Context(), ref(t, "o/n"), Split{Name: "../x"}, nil); err == nil {
		t.Error("a split of another folder")
	}
}
