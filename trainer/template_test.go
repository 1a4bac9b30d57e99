package trainer_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// TestExportTemplate: what is written brings the chat template that it was trained with, and reads a conversation as
// training did.
func TestExportTemplate(t *testing.T) {
	files, data := base(t, tiny.Shape{}), lesson(2)
	own, err := tokenizer.LoadDir(string(files.(safetensors.Dir)))
	if err != nil {
		t.Fatal(err)
	}
	messages := json.RawMessage(`[{"role":"system","content":"be\nkind"},{"role":"user","content":"it's 'me'?"},{"role":"assistant","content":"yes"}]`)
	for _, name := range tokenizer.Templates() {
		spec := tinySpec(job.Spec{MaxSteps: 1, Name: "bot", ChatTemplate: name, Adapter: job.AdapterLora,
			Output: job.Output{As: []string{"lora", "merged", "gguf"}}})
		tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
		dir := export(t, tr, "")
		trained, err := own.WithTemplate(name)
		if err != nil {
			t.Fatal(err)
		}
		checkChat(t, filepath.Join(dir, "merged"), trained, messages)

		// What is made of the adapter later brings it too.
		later := filepath.Join(t.TempDir(), "later")
		if err := (trainer.Trained{Model: files, Adapter: safetensors.Dir(dir)}).Export(later, "merged"); err != nil {
			t.Fatal(err)
		}
		want := read(t, filepath.Join(dir, "merged", tokenizer.TemplateFile))
		for _, at := range []string{dir, later} {
			if got := read(t, filepath.Join(at, tokenizer.TemplateFile)); !bytes.Equal(got, want) {
				t.Errorf("%s: %q lies in %s", name, got, at)
			}
		}
		if !bytes.Contains(read(t, filepath.Join(dir, "bot.gguf")), want) {
			t.Errorf("%s: the GGUF file has another template", name)
		}
	}
	tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 1})), Model: files, Rows: data})
	if _, err := os.Stat(filepath.Join(export(t, tr, ""), tokenizer.TemplateFile)); !os.IsNotExist(err) {
		t.Errorf("a template nobody asked for: %v", err)
	}
}

func checkChat(t *testing.T, dir string, want *tokenizer.Tokenizer, messages json.RawMessage) {
	t.Helper()
	got, err := tokenizer.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, said, err := got.Chat(messages, nil)
	b, wanted, err2 := want.Chat(messages, nil)
	if err != nil || err2 != nil || !slices.Equal(a, b) || !slices.Equal(said, wanted) {
		t.Errorf("%s reads %q, training read %q: %v, %v", dir, got.Decode(a), want.Decode(b), err, err2)
	}
	a, err = got.ChatPrompt(messages, nil)
	b, err2 = want.ChatPrompt(messages, nil)
	if err != nil || err2 != nil || !slices.Equal(a, b) {
		t.Errorf("%s asks %q, training asked %q: %v, %v", dir, got.Decode(a), want.Decode(b), err, err2)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
