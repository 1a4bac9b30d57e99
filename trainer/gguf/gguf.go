// Package gguf writes models as GGUF (version 3, little-endian), the file that llama.cpp and what is built on it read:
// metadata, the tokenizer and the weights in one. It knows the architectures "llama" (Llama, Mistral, SmolLM) and
// "qwen2".
//
// Words and names are those of llama.cpp's loader, which reads keys and tensors by name. Two things differ from Hugging
// Face's files. Dimensions are listed innermost first, which is another way to say the same bytes. And llama's queries
// and keys rotate neighbouring columns where Hugging Face rotates halves, so their rows change places; qwen2's do not.
//
// What a file of this form cannot say, as a tokenizer that cuts text in a way without a name, is refused. Weights are
// written one after the other: memory is that of the largest, not of the model.
//
// Concurrency. Write touches nothing but its arguments.
package gguf

import (
	"bufio"
	"fmt"
	"io"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// Source is a model as it is to be written.
type Source struct {
	Name  string       // for people
	Model *model.Model //
	Files model.Files  // where its tokenizer is
	Value func(*autograd.Param) ([]float32, error)
}

// Write writes s as one file. Matrices get type t, vectors are float32 as llama.cpp wants them; None keeps each matrix in
// the type that it came in.
func Write(w io.Writer, s Source, t Type) error {
	tensors := plan(s.Model, t)
	h, err := describe(s, tensors)
	if err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if _, err := out.Write(h.bytes(tensors)); err != nil {
		return err
	}
	for i := range tensors {
		if err := tensors[i].write(out, s.Value); err != nil {
			return fmt.Errorf("gguf: %s: %w", tensors[i].name, err)
		}
	}
	return out.Flush()
}

// Check says why a model, with the tokenizer in files, cannot be written, or nil. No weights are read.
func Check(m *model.Model, files model.Files) error {
	if _, err := describe(Source{Model: m, Files: files}, nil); err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	return nil
}

// describe makes the metadata.
func describe(s Source, tensors []tensor) (*header, error) {
	arch, err := architecture(s.Model)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(model.FS(s.Files))
	if err != nil {
		return nil, err
	}
	h := &header{}
	h.general(s.Name, arch, tensors)
	h.hyperparameters(arch, s.Model)
	if err := h.vocabulary(tok, s.Model.Config); err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return h, nil
}

// architecture is llama.cpp's name for the model's.
func architecture(m *model.Model) (string, error) {
	c := m.Config
	arch := map[string]string{"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}[c.Type]
	switch {
	case arch == "":
		return "", fmt.Errorf("shoal writes llama, mistral and qwen2 models as GGUF, not %s", c.Type)
	case c.Rope.Scaling == "longrope", !c.Rope.Usual:
		return "", fmt.Errorf("this model's %s rotation has parameters that GGUF has no place for", c.Rope.Scaling)
	}
	return arch, nil
}
