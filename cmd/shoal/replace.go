package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// clearResult removes what an earlier result of the same name left in dir, so that no reader takes two results for one:
// a model loader puts an adapter that it finds beside a model over that model. Only files that shoal writes go, and only
// where metrics tell that the directory is a result.
func clearResult(dir, name string) error {
	if !ours(filepath.Join(dir, api.MetricsFile)) {
		return nil
	}
	for _, sub := range []string{job.FormLoRA, job.FormMerged, job.FormFull, "."} { // a second form lies in a folder of its name
		at := filepath.Join(dir, sub)
		entries, err := os.ReadDir(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !resultFile(e.Name(), name) {
				continue
			}
			if err := os.Remove(filepath.Join(at, e.Name())); err != nil {
				return err
			}
		}
		if sub != "." {
			os.Remove(at) // only when nothing else is in it
		}
	}
	return nil
}

// resultFile tells that a file is one of those by which a result is found and loaded.
func resultFile(file, name string) bool {
	if file == peft.ConfigFile || file == peft.WeightsFile || file == "config.json" || file == "generation_config.json" || file == api.EvalFile {
		return true
	}
	if strings.HasPrefix(file, "model") && (strings.HasSuffix(file, ".safetensors") || strings.HasSuffix(file, ".safetensors.index.json")) {
		return true
	}
	return slices.ContainsFunc([]string{"gguf", "gguf:f32", "gguf:f16", "gguf:bf16", "gguf:q8_0"}, func(form string) bool {
		own, _ := trainer.GGUFName(name, form)
		return file == own
	})
}
