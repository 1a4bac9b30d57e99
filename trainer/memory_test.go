package trainer_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// open makes a trainer on a device that outlives it.
func open(t testing.TB, dev kernels.Device, c trainer.Config) *trainer.Trainer {
	t.Helper()
	c.Device = dev
	tr, err := trainer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func closed(t testing.TB, tr *trainer.Trainer) {
	t.Helper()
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// TestCloseGivesMemoryBack: jobs come and go, and the device has the memory that it had.
func TestCloseGivesMemoryBack(t *testing.T) {
	dev, data, out := modeltest.Device(t), lesson(4), t.TempDir()
	files := base(t, tiny.Shape{})
	for name, spec := range map[string]job.Spec{"full": {MaxSteps: 2}, "lora": {MaxSteps: 2, Adapter: job.AdapterLora}} {
		c := trainer.Config{Spec: valid(t, tinySpec(spec)), Model: files, Rows: data}
		before := dev.Info().InUse
		for i := range 50 {
			tr := open(t, dev, c)
			train(t, tr, 2)
			if i < 2 {
				evalLoss(t, tr, data)
				if err := tr.Export(out, ""); err != nil {
					t.Fatal(err)
				}
			}
			closed(t, tr)
			if now := dev.Info().InUse; now != before {
				t.Fatalf("%s: %d bytes in use after job %d, %d before", name, now, i+1, before)
			}
		}
	}
}

// tight is a device that gives memory a number of times.
type tight struct {
	kernels.Device
	left int
}

func (d *tight) Alloc(n int) (*kernels.Buffer, error) {
	if d.left == 0 {
		return nil, errors.New("no memory left")
	}
	d.left--
	return d.Device.Alloc(n)
}

func (d *tight) Free(b *kernels.Buffer) { kernels.Free(d.Device, b) }

// TestMemoryRunsOut: wherever that happens, what was taken goes back.
func TestMemoryRunsOut(t *testing.T) {
	for name, spec := range kinds {
		t.Run(name, func(t *testing.T) { checkRunsOut(t, spec) })
	}
}

func checkRunsOut(t *testing.T, spec job.Spec) {
	dev := &tight{Device: modeltest.Device(t)}
	before := dev.Info().InUse
	spec.MaxSteps = 2
	c := trainer.Config{Spec: valid(t, tinySpec(spec)), Model: base(t, tiny.Shape{Type: "gpt2"}), Rows: lesson(4), Device: dev}
	for room := 0; ; room++ {
		dev.left = room
		tr, err := trainer.New(c)
		if err == nil {
			err = tr.Run(t.Context(), tr.Local(), &trainer.Solo{}, func(trainer.StepReport) {})
			closed(t, tr)
			if err == nil {
				t.Fatal("a run without memory for its activations went well")
			}
			break
		}
		if now := dev.Info().InUse; now != before {
			t.Fatalf("%d bytes in use after New failed at allocation %d, %d before", now, room, before)
		}
	}
	if now := dev.Info().InUse; now != before {
		t.Errorf("%d bytes in use after a run without memory, %d before", now, before)
	}
}

// methods are all ways to a trainer's memory.
func methods(tr *trainer.Trainer, s trainer.State, rows trainer.Rows, dir string) map[string]func() error {
	ctx := context.Background()
	return map[string]func() error{
		"Snapshot":  func() error { _, err := tr.Snapshot(); return err },
		"StateHash": func() error { _, err := tr.StateHash(); return err },
		"Restore":   func() error { return tr.Restore(s) },
		"Apply":     func() error { _, err := tr.Apply(s.W, trainer.Totals{Tokens: 1}); return err },
		"Eval":      func() error { _, err := tr.Eval(ctx, rows); return err },
		"Export":    func() error { return tr.Export(dir, "") },
		"Run": func() error {
			return tr.Run(ctx, &fixed{work: []trainer.Work{{Round: tr.Step() + 1}}}, &fixed{}, func(trainer.StepReport) {})
		},
	}
}

func TestUseAfterClose(t *testing.T) {
	data := lesson(6)
	tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 9})), Model: base(t, tiny.Shape{}), Rows: data})
	s, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	closed(t, tr)
	closed(t, tr)
	for name, use := range methods(tr, s, data, t.TempDir()) {
		if err := use(); !errors.Is(err, trainer.ErrClosed) {
			t.Errorf("%s of a closed trainer: %v", name, err)
		}
	}
	if tr.Steps() != 9 || tr.Step() != 0 || tr.Elems() != len(s.W) || tr.Device() == nil {
		t.Error("a closed trainer forgot what it was")
	}
}

// TestCloseMeanwhile: a job is closed while everybody works with its trainer. They end with ErrClosed, all memory goes
// back, and the race detector finds nothing.
func TestCloseMeanwhile(t *testing.T) {
	dev, data := modeltest.Device(t), lesson(6)
	c := trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 1 << 20})), Model: base(t, tiny.Shape{}), Rows: data}
	first := open(t, dev, c)
	s, err := first.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	closed(t, first)
	for range 5 {
		tr := open(t, dev, c)
		var all sync.WaitGroup
		begun := make(chan string, 16)
		use := methods(tr, s, data, t.TempDir())
		use["Run"] = func() error { return tr.Run(t.Context(), tr.Local(), &trainer.Solo{}, func(trainer.StepReport) {}) }
		for name, use := range use {
			all.Go(func() {
				err := error(nil)
				for begun <- name; err == nil || errors.Is(err, trainer.ErrExcluded); err = use() { // others step and restore
				}
				if !errors.Is(err, trainer.ErrClosed) {
					t.Errorf("%s ended with %v", name, err)
				}
			})
		}
		for range use {
			<-begun
		}
		closed(t, tr)
		all.Wait()
		if now := dev.Info().InUse; now != 0 {
			t.Fatalf("%d bytes are in use", now)
		}
	}
}

// meddler is rows whose reader does something else at one of them.
type meddler struct {
	rows
	at int
	do func()
}

func (m meddler) Row(ctx context.Context, i int) (ids, labels []int32, err error) {
	if i == m.at {
		m.do()
	}
	return m.rows.Row(ctx, i)
}

// TestEvalOfOneMoment: weights that change during an evaluation change nothing of it; when they cannot be kept it fails
// and training goes on.
func TestEvalOfOneMoment(t *testing.T) {
	data := lesson(8)
	for name, spec := range map[string]job.Spec{"full": {MaxSteps: 99}, "lora": {MaxSteps: 99, Adapter: job.AdapterLora}} {
		t.Run(name, func(t *testing.T) {
			dev := &tight{Device: modeltest.Device(t), left: 1 << 20}
			tr := open(t, dev, trainer.Config{Spec: valid(t, tinySpec(spec)), Model: base(t, tiny.Shape{}), Rows: data})
			defer tr.Close()
			train(t, tr, 3)
			start, err := tr.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			want, err := tr.Eval(t.Context(), data)
			if err != nil || want.Step != 3 || want.Perplexity < 1 {
				t.Fatal(want, err)
			}
			held := dev.Info().InUse
			for what, change := range map[string]func(){
				"step":    func() { train(t, tr, tr.Step()+2) },
				"restore": func() { tr.Restore(trainer.State{Step: 3, W: start.M, M: start.M, V: start.V}) },
			} {
				if got, err := tr.Eval(t.Context(), meddler{data, 4, change}); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s meanwhile: %+v, %v; want %+v", what, got, err, want)
				}
				if now := dev.Info().InUse; now != held {
					t.Errorf("%s meanwhile: %d bytes in use, %d before", what, now, held)
				}
				if got, err := tr.Eval(t.Context(), data); err != nil || reflect.DeepEqual(got, want) {
					t.Errorf("%s: new weights give %+v as the old ones did, %v", what, got, err)
				}
				if err := tr.Restore(start); err != nil {
					t.Fatal(err)
				}
			}
			dev.left = 0
			if _, err := tr.Eval(t.Context(), meddler{data, 4, func() { train(t, tr, 4) }}); err == nil || tr.Step() != 4 {
				t.Errorf("without memory to keep the weights: step %d, %v", tr.Step(), err)
			}
			dev.left = 1 << 20
			stop := func() { train(t, tr, tr.Step()+1); closed(t, tr) }
			if _, err := tr.Eval(t.Context(), meddler{data, 4, stop}); !errors.Is(err, trainer.ErrClosed) {
				t.Errorf("closed meanwhile: %v", err)
			}
		})
	}
}

// TestStopsWithinAMicroBatch: a member that is excluded or cancelled computes no further, and may go on later.
func TestStopsWithinAMicroBatch(t *testing.T) {
	var reads int
	ctx, stop := context.WithCancel(context.Background())
	data := counted{lesson(6), &reads, func() {
		if reads == 3 {
			stop()
		}
	}}
	spec := tinySpec(job.Spec{MaxSteps: 2})
	spec.MicroBatchSize = 1
	tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: base(t, tiny.Shape{}), Rows: data})
	before := hash(t, tr)
	if err := tr.Run(ctx, tr.Local(), &trainer.Solo{}, func(trainer.StepReport) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run ended with %v", err)
	}
	if reads != 3 || hash(t, tr) != before {
		t.Errorf("%d micro-batches of 6 were begun, want 3; state changed: %v", reads, hash(t, tr) != before)
	}
	if got := train(t, tr, 2); len(got) != 2 || hash(t, tr) == before {
		t.Errorf("it cannot go on: %+v", got)
	}
}

type counted struct {
	rows
	n    *int
	then func()
}

func (c counted) Row(ctx context.Context, i int) (ids, labels []int32, err error) {
	*c.n++
	c.then()
	return c.rows.Row(ctx, i)
}

// fickle is a job whose rounds are given up again and again. It keeps what a collective would: the last pieces.
type fickle struct {
	left   int
	err    error
	mute   bool // hands out no positions
	pieces [][]float32
}

func (f *fickle) Next(context.Context) (trainer.Work, error) {
	w := trainer.Work{Round: 1, Positions: []shard.Range{{Lo: 0, Hi: 1}}}
	if f.mute {
		w.Positions = nil
	}
	return w, nil
}

func (f *fickle) Reduce(_ context.Context, _ trainer.Piece, u []float32) error {
	if f.pieces = append(f.pieces, u); len(f.pieces) > 3 {
		f.pieces = f.pieces[1:]
	}
	return nil
}

func (f *fickle) Cut(context.Context, uint64) ([]trainer.Chunk, trainer.Totals, error) {
	return nil, trainer.Totals{Tokens: 1}, nil
}

func (f *fickle) Gather(context.Context, uint64, []trainer.Chunk, []float32) error {
	if f.left--; f.left == 0 {
		return errGivenUp
	}
	return f.err
}

var errGivenUp = errors.New("given up")

// TestRoundsGivenUp: a thousand attempts of a round, or a thousand exclusions, hold no more memory than a few.
func TestRoundsGivenUp(t *testing.T) {
	tr := newTrainer(t, trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 9})), Model: base(t, tiny.Shape{}), Rows: lesson(6)})
	give := func(n int, err error, mute bool) {
		f := &fickle{left: n, err: err, mute: mute}
		for {
			err := tr.Run(t.Context(), f, f, func(trainer.StepReport) { t.Error("a step was reported") })
			if errors.Is(err, errGivenUp) {
				return
			}
			if !errors.Is(err, trainer.ErrExcluded) {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name string
		err  error
		mute bool
	}{
		{"attempts", trainer.ErrAttempt, false}, {"attempts without work", trainer.ErrAttempt, true},
		{"exclusions", fmt.Errorf("gather: %w", trainer.ErrExcluded), false},
	} {
		give(10, tc.err, tc.mute)
		before, device := liveHeap(), tr.Device().Info().InUse
		give(1000, tc.err, tc.mute)
		vector := int64(4 * tr.Elems())
		if grown := liveHeap() - before; grown > 8*vector {
			t.Errorf("a thousand %s hold %d bytes more, a vector is %d", tc.name, grown, vector)
		}
		if now := tr.Device().Info().InUse; now != device {
			t.Errorf("a thousand %s hold %d bytes more of the device", tc.name, now-device)
		}
	}
}

// liveHeap is what the garbage collector leaves, bytes.
func liveHeap() int64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}
