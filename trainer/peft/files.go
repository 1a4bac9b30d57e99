package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Names of the files of a PEFT directory.
const (
	ConfigFile  = "adapter_config.json"
	WeightsFile = "adapter_model.safetensors"
)

// maxConfigBytes bounds adapter_config.json.
const maxConfigBytes = 1 << 20

// Open reads an adapter for m from a PEFT directory. Close it after the last Read.
func Open(m *model.Model, files model.Files, seed uint64) (Adapter, error) {
	cfg, err := ReadConfig(files)
	if err != nil {
		return nil, err
	}
	a, err := build(m, cfg, seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	b := a.common()
	if b.stored, err = safetensors.OpenFile(files, WeightsFile); err != nil {
		return nil, err
	}
	err = b.fits()
	if o, ok := a.(interface{ opened() error }); ok && err == nil {
		err = o.opened()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", WeightsFile, err), b.stored.Close())
	}
	return a, nil
}

// fits holds the stored tensors against those that the adapter has: each one there, with its shape, and none besides.
func (b *base) fits() error {
	known := map[string]bool{}
	for _, want := range b.tensors {
		known[want.name] = true
		t, ok := b.stored.Tensor(want.name)
		if !ok {
			return fmt.Errorf("holds no %s", want.name)
		}
		if !slices.Equal(t.Shape, want.shape) {
			return fmt.Errorf("%s has shape %v, the base model asks for %v", want.name, t.Shape, want.shape)
		}
	}
	for _, name := range b.stored.Names() {
		if !known[name] {
			return fmt.Errorf("%.120q belongs to no layer that %s names", name, ConfigFile)
		}
	}
	return b.checkShared()
}

// checkShared refuses different values for the two ends of a model that shares its token table between them: stock PEFT
// would have two tables then.
func (b *base) checkShared() error {
	for _, p := range b.saved {
		if !p.Tied {
			continue
		}
		same, err := sameBytes(b.stored, prefixOfNames+p.Name, prefixOfNames+headModule+".weight")
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("%s and %s.weight differ, but the base model has one table for both", p.Name, headModule)
		}
	}
	return nil
}

func sameBytes(set *safetensors.Set, one, other string) (bool, error) {
	a, ta, err := set.Raw(one)
	if err != nil {
		return false, err
	}
	b, tb, err := set.Raw(other)
	if err != nil || ta.DType != tb.DType || a.Size() != b.Size() {
		return false, err
	}
	const piece = 1 << 16
	x, y := make([]byte, piece), make([]byte, piece)
	for off := int64(0); off < a.Size(); off += piece {
		n := int(min(piece, a.Size()-off))
		if _, err := a.ReadAt(x[:n], off); err != nil && err != io.EOF {
			return false, err
		}
		if _, err := b.ReadAt(y[:n], off); err != nil && err != io.EOF {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// ReadConfig reads and checks adapter_config.json.
func ReadConfig(files model.Files) (Config, error) {
	r, size, err := files.Open(ConfigFile)
	if err != nil {
		return Config{}, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	if size > maxConfigBytes {
		return Config{}, fmt.Errorf("%s: %d bytes, limit %d", ConfigFile, size, maxConfigBytes)
	}
	text := make([]byte, size)
	if n, err := r.ReadAt(text, 0); n < len(text) {
		return Config{}, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	return c, nil
}

// Save writes a PEFT directory with the given values. base is the name of the base model, for whoever loads it.
func (b *base) Save(dir, base string, value func(*autograd.Param) []float32) error {
	text, err := json.MarshalIndent(b.describe(base), "", "  ")
	if err != nil {
		return err
	}
	err = model.WriteFile(filepath.Join(dir, ConfigFile), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	return model.WriteFile(filepath.Join(dir, WeightsFile), func(w io.Writer) error { return b.writeTensors(w, value) })
}

func (b *base) writeTensors(w io.Writer, value func(*autograd.Param) []float32) error {
	ts := make([]safetensors.Tensor, len(b.tensors))
	for i, t := range b.tensors {
		ts[i] = safetensors.Tensor{Name: t.name, DType: safetensors.F32, Shape: t.shape}
	}
	out, err := safetensors.NewWriter(w, ts, nil)
	if err != nil {
		return err
	}
	for _, t := range b.tensors {
		if err := out.WriteF32(t.name, t.pack(value)); err != nil {
			return err
		}
	}
	return out.Close()
}
