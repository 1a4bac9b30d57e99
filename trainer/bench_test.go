package trainer_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// stories is a model of the size of stories260K.
var stories = tiny.Shape{Hidden: 64, Inner: 172, Layers: 5, Heads: 8, KVHeads: 4, Vocab: 512, Context: 512, Tied: true}

// passages are 16 rows of 128 tokens for it.
func passages() rows {
	data := make(rows, 16)
	for i := range data {
		for t := range 128 {
			data[i] = append(data[i], int32((i*37+t*t)%500))
		}
	}
	return data
}

// BenchmarkStep is a whole optimizer step on 4 rows of 128 tokens.
func BenchmarkStep(b *testing.B) {
	for _, s := range []struct {
		name string
		spec job.Spec
	}{
		{"full", job.Spec{}},
		{"lora", job.Spec{Adapter: job.AdapterLora, LoraTargetModules: []string{"q_proj", "k_proj", "v_proj", "o_proj"}}},
	} {
		for _, micro := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/micro%d", s.name, micro), func(b *testing.B) {
				spec := s.spec
				spec.MicroBatchSize, spec.GlobalBatchSize, spec.MaxSteps, spec.Optimizer.LR = micro, 4, 1<<30, 1e-4
				tr := newTrainer(b, trainer.Config{Spec: valid(b, spec), Model: base(b, stories), Rows: passages()})
				b.ReportAllocs()
				b.ResetTimer()
				train(b, tr, uint64(b.N))
				b.ReportMetric(float64(512*b.N)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}

// frugal counts what the Go heap gives inside the device's methods, so that the rest can be told from it.
type frugal struct {
	kernels.Device
	bytes uint64
}

func (f *frugal) count(work func() error) error {
	before := allocated()
	defer func() { f.bytes += allocated() - before }()
	return work()
}

func (f *frugal) Run(c []kernels.Cmd) error {
	return f.count(func() error { return f.Device.Run(c) })
}

func (f *frugal) Write(dst kernels.Tensor, src []byte) error {
	return f.count(func() error { return f.Device.Write(dst, src) })
}

func (f *frugal) Read(dst []byte, src kernels.Tensor) error {
	return f.count(func() error { return f.Device.Read(dst, src) })
}

// allocated is all bytes that the Go heap has given so far, to the byte: it stops the world.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestStepAllocations holds what a warm step takes of the Go heap, device aside, under a bound that does not depend on the
// number of tokens.
func TestStepAllocations(t *testing.T) {
	const steps, limit = 6, 8 << 10 // bytes per step; 2.5 KiB measured, whatever the number of tokens
	for name, spec := range map[string]job.Spec{"full": {}, "lora": {Adapter: job.AdapterLora, LoraTargetLinear: true, LoraDropout: 0.1}} {
		spec.MicroBatchSize, spec.GlobalBatchSize, spec.MaxSteps, spec.Optimizer.LR = 1, 4, 2*steps, 1e-4
		dev := &frugal{Device: modeltest.Device(t)}
		tr := open(t, dev, trainer.Config{Spec: valid(t, spec), Model: base(t, stories), Rows: passages()})
		defer tr.Close()
		train(t, tr, steps)
		before, own := allocated(), dev.bytes
		train(t, tr, 2*steps)
		all, own := allocated()-before, dev.bytes-own
		t.Logf("%s: %d bytes per step, %d of them the device's", name, all/steps, own/steps)
		if (all-own)/steps > limit {
			t.Errorf("%s: %d bytes of the Go heap per step besides the device's, limit %d", name, (all-own)/steps, limit)
		}
	}
}
