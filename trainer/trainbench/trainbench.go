// Package trainbench measures whole optimizer steps: batch, forward, backward, clipping, optimizer, on a device that the
// caller opens. The models have the shapes of known ones and weights that are made up, so nothing is downloaded.
//
// A figure is the median of the measured steps; what a process does first (taking memory, packing frozen weights) is
// left out. Concurrency: a measurement sets GOMAXPROCS while it runs, so nothing else should go on in the process.
package trainbench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// Options say how to train. The zero value trains all weights in float32 for five steps on all processors.
type Options struct {
	DType      string // the job's dtype: fp32, bf16; empty: fp32
	LoRA       bool   // rank 16 on every linear layer, instead of all weights
	Checkpoint bool   // gradient checkpointing
	Steps      int    // measured steps; 0: 5
	Workers    int    // GOMAXPROCS; 0: as it is
}

// Result is what was measured.
type Result struct {
	Name       string  `json:"name"`        // "llama15m B4 T256 fp32"
	Tokens     int     `json:"tokens"`      // of a step
	Seconds    float64 `json:"seconds"`     // wall time of a step
	CPUSeconds float64 `json:"cpu_seconds"` // processor time of a step
	BestCPU    float64 `json:"best_cpu"`    // processor time of the step that took least: other load makes steps slower only
	Loss       float64 `json:"loss"`        // of the last step, mean over target tokens
	RSSBefore  int64   `json:"rss_before"`  // bytes of memory that the process had once the model was there
	RSSPeak    int64   `json:"rss_peak"`    // and at most, since it started; 0: the system does not say
	HeapBytes  int64   `json:"heap_bytes"`  // that a step takes of the Go heap
}

// Models lists what Step knows.
func Models() []string { return []string{"llama15m", "gpt2", "llama124m", "llama1b"} }

func shape(model string) (tiny.Shape, bool) {
	switch model {
	case "llama15m":
		return tiny.Shape{Type: "llama", Hidden: 288, Inner: 768, Layers: 6, Heads: 6, Vocab: 32000, Context: 1024, Tied: true}, true
	case "gpt2":
		return tiny.Shape{Type: "gpt2", Hidden: 768, Inner: 3072, Layers: 12, Heads: 12, Vocab: 50257, Context: 1024, Tied: true}, true
	case "llama124m":
		return tiny.Shape{Type: "llama", Hidden: 768, Inner: 2048, Layers: 12, Heads: 12, Vocab: 32000, Context: 2048, Tied: true}, true
	case "llama1b":
		return tiny.Shape{Type: "llama", Hidden: 2048, Inner: 5632, Layers: 22, Heads: 32, KVHeads: 4, Vocab: 32000, Context: 2048}, true
	}
	return tiny.Shape{}, false
}

// warm is how many steps run before those that are measured.
const warm = 2

// Step trains a model on batch rows of seq tokens.
func Step(dev kernels.Device, model string, batch, seq int, o Options) (Result, error) {
	s, ok := shape(model)
	if !ok {
		return Result{}, fmt.Errorf("no model %q to measure; choose %s", model, strings.Join(Models(), ", "))
	}
	if batch < 1 || seq < 1 || seq > s.Context {
		return Result{}, fmt.Errorf("%d rows of %d tokens; %s takes at least one row of 1 to %d", batch, seq, model, s.Context)
	}
	if o.Workers > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(o.Workers))
	}
	if o.Steps < 1 {
		o.Steps = 5
	}
	return measure(dev, s, noise{rows: batch, tokens: seq, vocab: s.Vocab}, o, name(model, batch, seq, o))
}

func name(model string, batch, seq int, o Options) string {
	n := fmt.Sprintf("%s B%d T%d %s", model, batch, seq, o.DType)
	if o.DType == "" {
		n += job.FP32
	}
	if o.LoRA {
		n += " lora"
	}
	if o.Checkpoint {
		n += " checkpointing"
	}
	return n
}

// spec is the job of a measurement.
func spec(o Options, batch int) (*job.Spec, error) {
	s := &job.Spec{Version: job.Version, BaseModel: "measured", Datasets: []job.Dataset{{Path: "noise"}}, DType: o.DType,
		GradientCheckpointing: o.Checkpoint, MicroBatchSize: batch, GlobalBatchSize: batch, MaxSteps: warm + o.Steps,
		Optimizer: job.Optimizer{LR: 1e-4}}
	if o.LoRA {
		s.Adapter, s.LoraR, s.LoraTargetLinear = job.AdapterLora, 16, true
	}
	return s, s.Validate()
}

// mark is a moment between two steps.
type mark struct {
	wall, cpu time.Duration
	heap      uint64
}

func measure(dev kernels.Device, shape tiny.Shape, rows noise, o Options, name string) (Result, error) {
	files, err := tiny.Virtual(shape)
	if err != nil {
		return Result{}, err
	}
	sp, err := spec(o, rows.rows)
	if err != nil {
		return Result{}, err
	}
	t, err := trainer.New(trainer.Config{Spec: sp, Model: files, Rows: rows, Device: dev})
	if err != nil {
		return Result{}, err
	}
	defer t.Close()
	debug.FreeOSMemory() // what reading the model has left
	r := Result{Name: name, Tokens: rows.rows * rows.tokens, RSSBefore: resident()}

	marks, start, sample := make([]mark, 0, warm+o.Steps), time.Now(), []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	err = t.Run(context.Background(), t.Local(), &trainer.Solo{}, func(s trainer.StepReport) {
		metrics.Read(sample)
		marks = append(marks, mark{wall: time.Since(start), cpu: processorTime(), heap: sample[0].Value.Uint64()})
		r.Loss = s.Loss
	})
	if err != nil {
		return Result{}, err
	}
	r.RSSPeak = peak()
	r.medians(marks[warm-1:])
	return r, nil
}

func (r *Result) medians(marks []mark) {
	var wall, cpu []float64
	var heap []int64
	for i := 1; i < len(marks); i++ {
		wall = append(wall, (marks[i].wall - marks[i-1].wall).Seconds())
		cpu = append(cpu, (marks[i].cpu - marks[i-1].cpu).Seconds())
		heap = append(heap, int64(marks[i].heap-marks[i-1].heap))
	}
	r.Seconds, r.CPUSeconds, r.BestCPU, r.HeapBytes = median(wall), median(cpu), slices.Min(cpu), median(heap)
}

func median[T float64 | int64](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// noise is rows of tokens that mean nothing.
type noise struct{ rows, tokens, vocab int }

// Rows implements trainer.Rows.
func (n noise) Rows() int { return n.rows }

// Row implements trainer.Rows: every token but the last is to be predicted.
func (n noise) Row(_ context.Context, i int) (ids, labels []int32, err error) {
	ids = make([]int32, n.tokens)
	for t := range ids {
		ids[t] = int32(uint64(uint32(i*n.tokens+t+1)*2654435769) * uint64(n.vocab) >> 32)
	}
	return ids, ids, nil
}
