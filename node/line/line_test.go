package line_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/line"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// rows are token ids, every token but the first a target.
type rows [][]int32

func (r rows) Rows() int { return len(r) }

func (r rows) Row(_ context.Context, i int) (ids, labels []int32, err error) { return r[i], r[i], nil }

const (
	layers = 4
	steps  = 4
	batch  = 8
	micro  = 2
)

var theJob = record.CID([]byte("job"))

// config is a small job whose stages need not agree on a norm, so that each steps alone.
func config(t *testing.T) trainer.Config {
	t.Helper()
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{Layers: layers, KVHeads: 2, Std: 0.1}, 7); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var data rows
	for range 32 {
		ids := make([]int32, 5+rng.IntN(20))
		for i := range ids {
			ids[i] = int32(rng.IntN(40))
		}
		data = append(data, ids)
	}
	spec := &job.Spec{Version: job.Version, BaseModel: "base", Datasets: []job.Dataset{{Path: "rows.jsonl"}}, GlobalBatchSize: batch, MicroBatchSize: micro,
		MaxSteps: steps, MaxGradNorm: new(0.0), Optimizer: job.Optimizer{LR: 3e-3}}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	return trainer.Config{Spec: spec, Model: safetensors.Dir(dir), Rows: data, Device: modeltest.Device(t)}
}

func losses(t *testing.T, c trainer.Config, src func(*trainer.Trainer) trainer.Source) (all []float64) {
	t.Helper()
	tr, err := trainer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Run(t.Context(), src(tr), &trainer.Solo{}, func(r trainer.StepReport) { all = append(all, r.Loss) }); err != nil {
		t.Error(err)
	}
	return all
}

// source hands out steps, and begins each as a round of the pipeline.
type source struct {
	*trainer.LocalSource
	line   *pipe.Line
	stage  *line.Stage
	stages []record.PeerID
}

func (s source) Next(ctx context.Context) (trainer.Work, error) {
	w, err := s.LocalSource.Next(ctx)
	if err != nil {
		return w, err
	}
	if err := s.line.Drain(ctx); err != nil {
		return w, err
	}
	p := pipe.Plan{Key: pipe.Key{Job: theJob, Plan: theJob, Round: w.Round}, Elems: 1 << 20, Homes: make([]int, batch/micro)}
	for _, id := range s.stages {
		p.Stages = append(p.Stages, []pipe.Member{{ID: id}})
	}
	var micros [][]shard.Range
	for lo := w.Positions[0].Lo; lo < w.Positions[0].Hi; lo += micro {
		micros = append(micros, []shard.Range{{Lo: lo, Hi: lo + micro}})
	}
	return w, s.stage.Begin(p, micros)
}

// member is a stage on the network.
type member struct {
	host *p2p.Host
	x    *xfer.Xfer
}

func newMember(t *testing.T) member {
	h, err := p2p.New(p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	m := member{h, xfer.Over(h, xfer.Config{})}
	t.Cleanup(m.x.Close)
	return m
}

// train is the stage's part in the job.
func (m member) train(t *testing.T, c trainer.Config, codec exact.Codec, stages []record.PeerID) []float64 {
	i := slices.Index(stages, m.host.ID())
	var l *pipe.Line
	done := 0
	l, err := pipe.NewExchange(m.x).Join(theJob, m.host.ID(), codec, pipe.Events{
		Finished: func(pipe.Key, uint32) {
			if done++; done%(batch/micro) == 0 {
				l.End()
			}
		},
		Unreachable: func(_ pipe.Key, id record.PeerID, err error) { t.Errorf("%s: %v", id, err) },
	})
	if err != nil {
		t.Error(err)
		return nil
	}
	defer l.Close()
	const row = layers + 2
	end := line.New(l)
	c.Part, c.Line = model.Part{Lo: i * row / len(stages), Hi: (i + 1) * row / len(stages)}, end
	all := losses(t, c, func(tr *trainer.Trainer) trainer.Source {
		return source{LocalSource: tr.Local(), line: l, stage: end, stages: stages}
	})
	if err := l.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	return all
}

func whole(tr *trainer.Trainer) trainer.Source { return tr.Local() }

func furthest(a, b []float64) (d float64) {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	for i := range a {
		d = max(d, math.Abs(a[i]-b[i]))
	}
	return d
}

// TestStagesOverSockets trains in three stages over real sockets, in each form of activations.
func TestStagesOverSockets(t *testing.T) {
	c := config(t)
	want := losses(t, c, whole)
	for codec, limit := range map[exact.Codec]float64{exact.FP32: 1e-6, exact.BF16: 3e-3, exact.Int8: 2e-2} {
		t.Run(codec.String(), func(t *testing.T) {
			var members []member
			var ids []record.PeerID
			for range 3 {
				m := newMember(t)
				for _, o := range members {
					if err := m.host.Connect(t.Context(), o.host.Addrs()[0]); err != nil {
						t.Fatal(err)
					}
				}
				members, ids = append(members, m), append(ids, m.host.ID())
			}
			got := make([][]float64, len(members))
			var wg sync.WaitGroup
			for i, m := range members {
				wg.Go(func() { got[i] = m.train(t, c, codec, ids) })
			}
			wg.Wait()
			d := furthest(got[2], want)
			t.Logf("losses %v differ by at most %.2g", got[2], d)
			if d > limit {
				t.Errorf("losses %v, want %v", got[2], want)
			}
		})
	}
}

// hello is what the two processes of TestTwoProcesses tell each other.
type hello struct {
	ID     record.PeerID
	Addr   string
	Losses []float64
}

const asStage = "SHOAL_TEST_STAGE"

// TestTwoProcesses runs the second stage in a process of its own.
func TestTwoProcesses(t *testing.T) {
	if os.Getenv(asStage) != "" {
		secondStage(t)
		return
	}
	c := config(t)
	want := losses(t, c, whole)
	m := newMember(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTwoProcesses$")
	cmd.Env, cmd.Stderr = append(os.Environ(), asStage+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	other := hear(t, lines)
	say(t, in, hello{ID: m.host.ID()})
	if err := m.host.Connect(t.Context(), other.Addr); err != nil {
		t.Fatal(err)
	}
	m.train(t, c, exact.FP32, []record.PeerID{m.host.ID(), other.ID})
	got := hear(t, lines).Losses
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if d := furthest(got, want); d > 1e-6 { // transfers overtake each other, so sums may have another order
		t.Errorf("losses %v, want %v", got, want)
	}
}

func secondStage(t *testing.T) {
	c, m := config(t), newMember(t)
	say(t, os.Stdout, hello{ID: m.host.ID(), Addr: m.host.Addrs()[0]})
	first := hear(t, bufio.NewScanner(os.Stdin))
	got := m.train(t, c, exact.FP32, []record.PeerID{first.ID, m.host.ID()})
	say(t, os.Stdout, hello{Losses: got})
}

func say(t *testing.T, w interface{ Write([]byte) (int, error) }, h hello) {
	b, err := json.Marshal(h)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, s *bufio.Scanner) (h hello) {
	if !s.Scan() {
		t.Fatalf("the other process says nothing: %v", s.Err())
	}
	if err := json.Unmarshal(s.Bytes(), &h); err != nil {
		t.Fatalf("%s: %v", s.Bytes(), err)
	}
	return h
}
