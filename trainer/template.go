package trainer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// maxTemplate bounds a chat template that is copied.
const maxTemplate = 1 << 20 // bytes

// templated is a model directory with another chat template. Who reads one takes the file for the truth, whatever
// tokenizer_config.json says.
type templated struct {
	model.Files
	text []byte
}

// Open implements model.Files.
func (t templated) Open(path string) (io.ReaderAt, int64, error) {
	switch path {
	case tokenizer.TemplateFile:
		return bytes.NewReader(t.text), int64(len(t.text)), nil
	case "chat_template.json": // an older place of the same
		return nil, 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return t.Files.Open(path)
}

// withTemplate is the directory of a base model with the chat template that a job names, so that what was trained is
// asked in the form that it was trained in. The base's own, and a base without a tokenizer, stay as they are.
func withTemplate(files model.Files, name string) (model.Files, error) {
	if name == "" || name == tokenizer.DefaultTemplate {
		return files, nil
	}
	tok, err := tokenizer.Load(model.FS(files))
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err == nil {
		tok, err = tok.WithTemplate(name)
	}
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	return templated{files, []byte(tok.Standalone())}, nil
}

// withTemplateOf is the directory of a base model with the chat template that lies beside an adapter, if one does.
func withTemplateOf(files, adapter model.Files) (model.Files, error) {
	r, size, err := adapter.Open(tokenizer.TemplateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	if size > maxTemplate {
		return nil, fmt.Errorf("%s: %d bytes, limit %d", tokenizer.TemplateFile, size, maxTemplate)
	}
	text := make([]byte, size)
	if n, err := r.ReadAt(text, 0); n < len(text) {
		return nil, fmt.Errorf("%s: %w", tokenizer.TemplateFile, err)
	}
	return templated{files, text}, nil
}

// writeTemplate puts the template beside an adapter, if the base model has another.
func writeTemplate(dir string, files model.Files) error {
	t, ok := files.(templated)
	if !ok {
		return nil
	}
	return model.WriteFile(filepath.Join(dir, tokenizer.TemplateFile), func(w io.Writer) error {
		_, err := w.Write(t.text)
		return err
	})
}
