//go:build !race

// The race detector keeps tensors on the Go heap and memory of its own beside them.

package trainer_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// anonymous is what the process has to itself, in bytes.
func anonymous(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib * 1024
		}
	}
	t.Skip("this kernel does not tell RssAnon")
	return 0
}

// TestFrozenBaseMemory: a LoRA over a bfloat16 base takes the base's bytes and a quarter, besides what does not grow with
// it: while it is read and while it trains.
func TestFrozenBaseMemory(t *testing.T) {
	const besides = 48 << 20 // bytes: logits of 64 tokens and their packed form take 30 MiB; the table as float32 would be 64
	shape := tiny.Shape{Type: "qwen2", Hidden: 256, Inner: 1024, Layers: 2, Heads: 4, KVHeads: 2, Vocab: 1 << 16, Tied: true, DType: safetensors.BF16}
	files := base(t, shape)
	info, err := os.Stat(string(files.(safetensors.Dir)) + "/" + safetensors.SingleFile)
	if err != nil {
		t.Fatal(err)
	}
	spec := tinySpec(job.Spec{MaxSteps: 2, Adapter: job.AdapterLora, LoraTargetLinear: true, DType: job.BF16})
	data := make(rows, 6)
	for i := range data {
		for j := range 32 {
			data[i] = append(data[i], int32(i*1000+j))
		}
	}
	dev := modeltest.Device(t)
	kernels.PackCache(dev, 0)  // a copy of a small model, which large ones do not have
	peak := peakOf(t, func() { // less what writing the model has left
		tr := open(t, dev, trainer.Config{Spec: valid(t, spec), Model: files, Rows: data})
		defer tr.Close()
		train(t, tr, 2)
	})
	got, bar := peak, info.Size()*5/4+besides
	t.Logf("%.1f MB for a base of %.1f MB, at most %.1f", float64(got)/1e6, float64(info.Size())/1e6, float64(bar)/1e6)
	if got > bar {
		t.Errorf("%d bytes for a base of %d, want at most %d", got, info.Size(), bar)
	}
}
