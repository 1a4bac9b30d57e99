package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// hand is a runtime that a test moves by hand: it waits for commands per job.
type hand struct {
	mu   sync.Mutex
	runs map[cid.Cid]chan func(report func(task.Event)) error // a command; errOver from it ends Run
	ran  chan cid.Cid                                         // told when Run begins
	kept []task.Checkpoint                                    // what its jobs could go back to
}

var errOver = errors.New("over")

func newHand() *hand {
	return &hand{runs: map[cid.Cid]chan func(func(task.Event)) error{}, ran: make(chan cid.Cid, 16), kept: []task.Checkpoint{{Step: 2, Settled: true, Here: true, Bytes: 12}}}
}

func (h *hand) Run(ctx context.Context, t task.Task, report func(task.Event)) error {
	commands := make(chan func(func(task.Event)) error)
	h.mu.Lock()
	h.runs[t.ID] = commands
	h.mu.Unlock()
	h.ran <- t.ID
	for {
		select {
		case f := <-commands:
			if err := f(report); errors.Is(err, errOver) {
				return nil
			} else if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// do reports events of a running job; ended jobs return from Run.
func (h *hand) do(id cid.Cid, events ...task.Event) {
	h.command(id, func(report func(task.Event)) error {
		for _, e := range events {
			report(e)
			if _, ok := e.(task.Ended); ok {
				return errOver
			}
		}
		return nil
	})
}

func (h *hand) command(id cid.Cid, f func(func(task.Event)) error) {
	h.mu.Lock()
	c := h.runs[id]
	h.mu.Unlock()
	done := make(chan struct{})
	c <- func(report func(task.Event)) error { defer close(done); return f(report) }
	<-done
}

func (h *hand) Cancel(_ context.Context, id cid.Cid) error {
	go h.do(id, task.Ended{State: api.Cancelled})
	return nil
}

func (h *hand) GoBack(_ context.Context, id cid.Cid, step uint64) (task.Order, error) {
	h.do(id, task.Back{Step: step})
	return task.Order{Number: 1, Step: step}, nil
}

func (h *hand) Checkpoints(context.Context, task.Task) ([]task.Checkpoint, error) {
	return h.kept, nil
}

func (h *hand) Export(_ context.Context, t task.Task, as, dir string) error {
	forms, err := t.Spec.Forms(as)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, forms[0]+".txt"), []byte(t.Spec.BaseModel), 0o600)
}

func stepped(step uint64, loss float64) task.Stepped {
	return task.Stepped{StepReport: trainer.StepReport{Step: step, Loss: loss, Tokens: 10, Peers: 2}}
}

// newNode starts a node with a home in dir and returns it with a client.
func newNode(t *testing.T, dir string, h task.Runtime, change func(*config.Config)) (*Node, *api.Client, func()) {
	t.Helper()
	cfg := config.Default()
	cfg.Home, cfg.APIAddr, cfg.MDNS = dir, "127.0.0.1:0", false
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	cfg.Device = "cpu"
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n, err := open(ctx, cfg, slog.New(slog.DiscardHandler), h)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(began); took > ShutdownTime {
			t.Errorf("stopping took %v", took)
		}
	})
	t.Cleanup(stop)
	token, err := loadToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := api.NewClient(api.At(n.listener.Addr().String(), token))
	await(t, func() bool { _, err := c.Jobs(t.Context()); return err == nil })
	return n, c, stop
}

// await polls until ok; the test's own deadline ends it.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("what was awaited did not happen")
		}
	}
}

// tinyJob writes a tiny model and rows, and returns the directory of both.
func tinyJob(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "model"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tiny.Write(filepath.Join(dir, "model"), tiny.Shape{Type: "llama"}, 1); err != nil {
		t.Fatal(err)
	}
	rows := ""
	for range 8 {
		rows += `{"text": "a row of text to learn from"}` + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
