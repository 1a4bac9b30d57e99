package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// exportDir writes the result of a run on this machine in another form.
func (a *app) exportDir(ctx context.Context, f exportFlags) error {
	return a.withSources(func(src *prepare.Sources) error {
		d, err := a.openTrained(ctx, src, f)
		if err != nil {
			return err
		}
		at := f.out
		if base := absolute(d.Base); !f.file() && (overlap(at, f.dir) || filepath.IsAbs(base) && overlap(at, base)) {
			return fmt.Errorf("output %s overlaps with what is read; choose another directory with -o", at)
		}
		if !f.file() {
			if err := clearResult(f.out, d.Name); err != nil {
				return err
			}
			if form, gguf := trainer.GGUFName(d.Name, f.as); gguf {
				at = filepath.Join(f.out, form)
			}
		}
		return d.Export(at, f.as)
	})
}

// openTrained finds what a directory holds: a model, or an adapter and the model under it.
func (a *app) openTrained(ctx context.Context, src *prepare.Sources, f exportFlags) (trainer.Trained, error) {
	d := trainer.Trained{Name: filepath.Base(absolute(f.dir)), Base: f.base}
	name, err := baseOf(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.base != "":
		return d, fmt.Errorf("%s holds no adapter; --base has no meaning for it", f.dir)
	case errors.Is(err, fs.ErrNotExist):
		d.Model = safetensors.Dir(f.dir)
		return d, nil
	case err != nil:
		return d, err
	case d.Base == "":
		d.Base = name
	}
	m, err := src.Model(ctx, d.Base, a.progress(0).long)
	if err != nil {
		return d, fmt.Errorf("the adapter's base model: %w; name it with --base", err)
	}
	d.Model, d.Adapter = m.Files, safetensors.Dir(f.dir)
	return d, nil
}

// baseOf is what an adapter calls its base model.
func baseOf(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, peft.ConfigFile))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var c struct {
		Base string `json:"base_model_name_or_path"`
	}
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&c); err != nil {
		return "", fmt.Errorf("%s: %w", peft.ConfigFile, err)
	}
	return c.Base, nil
}
