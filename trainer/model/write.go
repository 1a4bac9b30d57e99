package model

import (
	"bufio"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// companions are the files that travel with a model's weights, where they are there.
var companions = [...]string{ConfigFile, generationFile, "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
	"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"}

// maxCompanion bounds a copied file: tokenizers with large vocabularies take tens of MB.
const maxCompanion = 256 << 20

// Save writes a model directory: the weights as value gives them, under the names and in the types that they came in,
// in one file, and the companions from where the model came from; config.json says what surgery has changed. value's
// slice is used before the next call.
func (m *Model) Save(dir string, from Files, value func(*autograd.Param) ([]float32, error)) error {
	for _, name := range companions {
		if err := copyFile(filepath.Join(dir, name), from, name); err != nil {
			return err
		}
	}
	if m.Changed() {
		text, err := m.changedConfig(from)
		if err != nil {
			return err
		}
		if err := writeText(filepath.Join(dir, ConfigFile), text); err != nil {
			return err
		}
	}
	return WriteFile(filepath.Join(dir, safetensors.SingleFile), func(w io.Writer) error { return m.writeTensors(w, value) })
}

func (m *Model) writeTensors(w io.Writer, value func(*autograd.Param) ([]float32, error)) error {
	ts := make([]safetensors.Tensor, len(m.Params))
	for i, p := range m.Params {
		ts[i] = m.Stored(p)
	}
	out, err := safetensors.NewWriter(w, ts, nil)
	if err != nil {
		return err
	}
	for i, p := range m.Params {
		v, err := value(p)
		if err != nil {
			return err
		}
		if err := out.WriteF32(ts[i].Name, v); err != nil {
			return err
		}
	}
	return out.Close()
}

// copyFile copies a companion where there is one.
func copyFile(path string, from Files, name string) error {
	text, err := readSmall(from, name, maxCompanion)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return writeText(path, text)
}

func writeText(path string, text []byte) error {
	return WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// WriteFile writes path by way of a temporary file beside it, so that a reader never sees half of one. Folders are made.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	buf := bufio.NewWriterSize(f, 1<<20)
	if err := write(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
