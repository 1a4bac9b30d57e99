//go:build !race

package trainer_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/plan"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// lone is a line whose neighbours are made up: they give numbers that do not matter, in the order and with as many
// micro-batches alive as in a pipeline.
type lone struct {
	stage, stages, micros int
	elems                 int // of what goes between stages
	round                 uint64
	order                 []stage.Task
}

func (l *lone) Next(_ context.Context, w trainer.Work) (p trainer.Pass, err error) {
	if l.round != w.Round {
		l.round, l.order = w.Round, stage.OneFOneB(l.stage, l.stages, l.micros)
	}
	if len(l.order) == 0 {
		return p, io.EOF
	}
	k := l.order[0]
	l.order = l.order[1:]
	lo := w.Positions[0].Lo + uint64(k.Micro)
	p = trainer.Pass{Micro: uint32(k.Micro), Back: k.Back, Positions: []shard.Range{{Lo: lo, Hi: lo + 1}}}
	if !k.Back && l.stage > 0 || k.Back && l.stage < l.stages-1 {
		p.Data = make([]float32, l.elems)
		for i := range p.Data {
			p.Data[i] = float32(i%7-3) * 1e-2
		}
	}
	return p, nil
}

func (l *lone) Done(context.Context, trainer.Pass, []float32) error { return nil }

// aloneOwner agrees with itself, and owns each fourth chunk.
type aloneOwner struct {
	tr *trainer.Trainer
	u  []float32
}

func (a *aloneOwner) Reduce(_ context.Context, _ trainer.Piece, u []float32) error {
	a.u = u
	return nil
}

func (a *aloneOwner) Cut(context.Context, uint64) (own []trainer.Chunk, tot trainer.Totals, err error) {
	l, _ := a.tr.Layout()
	for c := 0; c < len(l.Chunks); c += 4 {
		ch := l.Chunks[c]
		own = append(own, trainer.Chunk{Lo: ch.Lo, Hi: ch.Hi, V: a.u[ch.Lo:ch.Hi]})
	}
	return own, trainer.Totals{Tokens: 1, Loss: 1, SumSq: 1, Peers: 4}, nil
}

func (a *aloneOwner) Gather(_ context.Context, _ uint64, own []trainer.Chunk, dst []float32) error {
	s, err := a.tr.Snapshot()
	copy(dst, s.W)
	for _, ch := range own {
		copy(dst[ch.Lo:ch.Hi], ch.V)
	}
	return err
}

// peakOf is how much more memory of its own the process had at the most while f ran than before.
func peakOf(t *testing.T, f func()) int64 {
	debug.FreeOSMemory()
	before, end, peak := anonymous(t), make(chan bool), make(chan int64)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for most := int64(0); ; {
			select {
			case <-tick.C:
				most = max(most, anonymous(t))
			case <-end:
				peak <- most
				return
			}
		}
	}()
	f()
	end <- true
	return <-peak - before
}

// TestPartMemory: a LoRA over a bfloat16 model of 557 million weights in four parts. Each takes so little that a daemon,
// which has some 90 MB besides, stays below 700 MB; and a plan counts with about as much.
func TestPartMemory(t *testing.T) {
	shape := tiny.Shape{Hidden: 1280, Inner: 3456, Layers: 24, Heads: 20, KVHeads: 20, Vocab: 32000, Context: 512, DType: safetensors.BF16}
	tokens, limit := 256, int64(600e6)
	if os.Getenv("SHOAL_FULL") == "" {
		t.Skip("writes a model of 1.1 GB; set SHOAL_FULL=1")
	}
	files := base(t, shape)
	spec := staged(t, job.Spec{GlobalBatchSize: 4, SequenceLen: tokens, MaxSteps: 1, Adapter: job.AdapterLora, LoraTargetLinear: true, DType: job.BF16,
		GradientCheckpointing: true, Optimizer: job.Optimizer{LR: 1e-3}})
	j, err := trainer.Costs(spec, files, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var nodes []plan.Node
	for i := range 4 {
		nodes = append(nodes, plan.Node{Name: fmt.Sprint(i), Memory: limit + 96<<20, Flops: 1e10, Rate: 1e7})
	}
	p, err := plan.Make(j, nodes, plan.Want{Stages: 4})
	if err != nil {
		t.Fatal(err)
	}
	data := make(rows, 4)
	for i := range data {
		for k := range tokens {
			data[i] = append(data[i], int32(3+(i*1000+k*37)%30000))
		}
	}
	for i, s := range p.Stages {
		dev := modeltest.Device(t)
		kernels.PackCache(dev, 0) // as under a limit
		line := &lone{stage: i, stages: 4, micros: 4, elems: tokens * shape.Hidden}
		c := trainer.Config{Spec: spec, Model: files, Rows: data, Device: dev, Owners: true, Whole: true, Line: line, Part: model.Part{Lo: s.Lo, Hi: s.Hi}}
		var used int64
		peak := peakOf(t, func() {
			tr, err := trainer.New(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Run(t.Context(), tr.Local(), &aloneOwner{tr: tr}, func(trainer.StepReport) {}); err != nil {
				t.Fatal(err)
			}
			used = dev.Info().InUse
			closed(t, tr)
		})
		counted := s.Memory - 96<<20
		t.Logf("part %d, units %d to %d: %d MB on the device, %d MB in all, counted %d MB", i, s.Lo, s.Hi, used/1e6, peak/1e6, counted/1e6)
		if peak > limit {
			t.Errorf("%d bytes, at most %d are allowed", peak, limit)
		}
		if r := float64(counted) / float64(peak); r < 0.7 || r > 1.5 {
			t.Errorf("a plan counts with %d bytes, there are %d", counted, peak)
		}
	}
}
