package trainbench

import (
	"math"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// TestMeasure: a small model's figures can be, and a model that nobody knows is refused by name.
func TestMeasure(t *testing.T) {
	dev := modeltest.Device(t)
	for _, o := range []Options{{Steps: 2, Workers: 1}, {Steps: 2, LoRA: true}} {
		r, err := measure(dev, tiny.Shape{Hidden: 32, Vocab: 300}, noise{rows: 2, tokens: 24, vocab: 300}, o, "small")
		if err != nil {
			t.Fatal(err)
		}
		if r.Tokens != 48 || r.Seconds <= 0 || math.Abs(r.Loss-math.Log(300)) > 1 {
			t.Errorf("%+v", r)
		}
	}
	if _, err := Step(dev, "llama", 1, 1, Options{}); err == nil || !strings.Contains(err.Error(), "llama15m") {
		t.Errorf("an unknown model gives %v", err)
	}
	if _, err := Step(dev, "gpt2", 4, 1025, Options{}); err == nil {
		t.Error("a sequence that is too long is measured")
	}
}

// BenchmarkStep is a step of each of the reference shapes; -benchtime 1x measures each once.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		model      string
		batch, seq int
		o          Options
	}{
		{"llama15m", 4, 256, Options{}}, {"llama15m", 4, 256, Options{LoRA: true}},
		{"gpt2", 4, 64, Options{}}, {"gpt2", 4, 64, Options{LoRA: true}}, {"gpt2", 4, 256, Options{}},
	} {
		b.Run(strings.ReplaceAll(name(c.model, c.batch, c.seq, c.o), " ", "/"), func(b *testing.B) {
			c.o.Steps = b.N
			r, err := Step(modeltest.Device(b), c.model, c.batch, c.seq, c.o)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(r.Tokens)/r.Seconds, "tokens/s")
			b.ReportMetric(float64(r.Tokens)/r.CPUSeconds, "tokens/cpu-s")
			b.ReportMetric(float64(r.RSSPeak-r.RSSBefore)/(1<<20), "added-MiB")
			b.ReportMetric(float64(r.HeapBytes), "heap-B/step")
		})
	}
}
