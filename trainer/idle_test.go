package trainer_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// TestIdle: a trainer without frozen weights begins with the same state, takes over another's and exports the same bytes,
// in a fraction of the memory.
func TestIdle(t *testing.T) {
	for name, spec := range map[string]job.Spec{
		"full": {}, "lora": {Adapter: job.AdapterLora, LoraTargetLinear: true}, "dora in bf16": {Adapter: job.AdapterDora, DType: job.BF16},
	} {
		spec.MaxSteps = 2
		files, data, dev := base(t, tiny.Shape{Vocab: 4096}), lesson(6), modeltest.Device(t)
		c := trainer.Config{Spec: valid(t, tinySpec(spec)), Model: files, Rows: data}
		tr := open(t, dev, c)
		full := dev.Info().InUse
		c.Idle = true
		idle := open(t, dev, c)
		if got := dev.Info().InUse - full; name != "full" && got > full/4 {
			t.Errorf("%s: %d bytes idle, %d to train", name, got, full)
		}
		if hash(t, tr) != hash(t, idle) {
			t.Errorf("%s: another first state", name)
		}
		train(t, tr, 2)
		s, err := tr.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := idle.Restore(s); err != nil {
			t.Fatal(err)
		}
		as := trainer.ExportMerged
		if name == "full" {
			as = trainer.ExportFull
		}
		want := read(t, filepath.Join(export(t, tr, as), safetensors.SingleFile))
		if got := read(t, filepath.Join(export(t, idle, as), safetensors.SingleFile)); !bytes.Equal(got, want) {
			t.Errorf("%s: the files differ", name)
		}
		if err := idle.Run(t.Context(), idle.Local(), &trainer.Solo{}, nil); err == nil {
			t.Errorf("%s: it ran", name)
		}
		if _, err := idle.Eval(context.Background(), data); err == nil {
			t.Errorf("%s: it measured", name)
		}
		closed(t, idle)
		closed(t, tr)
	}
}
