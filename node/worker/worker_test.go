package worker

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/blocks"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// peer is a real node without a daemon around it.
type peer struct {
	*Runtime
	host *p2p.Host

	mu     sync.Mutex
	steps  []trainer.StepReport
	rounds []task.RoundReport
	at     []time.Time       // of each of rounds
	states map[uint64]string // hashes by step
	ended  task.Ended
	notes  []string
	noted  chan struct{} // closed with the next note
	key    ed25519.PrivateKey
	dir    string        // of its store
	stop   func()        // everything that runs
	mark   uint64        // 10, unless a test wants another
	tenth  chan struct{} // closed at step mark
	done   chan struct{}
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	return openPeer(t, t.TempDir(), key)
}

// openPeer starts a node on a store.
func openPeer(t testing.TB, dir string, key ed25519.PrivateKey) *peer {
	t.Helper()
	host, err := p2p.New(p2p.Config{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	st, err := store.Open(dir, store.Options{})
	must(t, err)
	dev, err := kernels.Open("cpu")
	must(t, err)
	x := xfer.Over(host, xfer.Config{})
	ex := blocks.New(host, st, nil)
	p := &peer{host: host, key: key, dir: dir, states: map[uint64]string{}, mark: 10, noted: make(chan struct{}), tenth: make(chan struct{}), done: make(chan struct{}), Runtime: New(Deps{
		Host: host, Blocks: ex, Groups: collective.NewExchange(x), Vectors: NewVectors(x), Pipes: pipe.NewExchange(x), Store: st, Device: dev, Scratch: filepath.Join(dir, "scratch"), Log: slog.Default(),
	})}
	p.stop = sync.OnceFunc(func() {
		p.Close()
		ex.Close()
		x.Close()
		host.Close()
		dev.Close()
		st.Close()
	})
	t.Cleanup(p.stop)
	return p
}

// numbersOnly skips a test of numbers under the race detector, which sees the same paths in others.
func numbersOnly(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("a test of numbers, ten times slower under the race detector")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *peer) run(ctx context.Context, tk task.Task) error {
	return p.Run(ctx, tk, func(e task.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := e.(type) {
		case task.Stepped:
			p.steps = append(p.steps, e.StepReport)
			p.states[e.Step] = e.State
			if e.Step == p.mark {
				close(p.tenth)
			}
		case task.Round:
			p.rounds, p.at = append(p.rounds, e.RoundReport), append(p.at, time.Now())
		case task.Note:
			p.notes = append(p.notes, e.Text)
			close(p.noted)
			p.noted = make(chan struct{})
			if testing.Verbose() {
				fmt.Println(time.Now().Format("05.000"), p.host.ID()[len(p.host.ID())-4:], e.Text)
			}
		case task.Back:
			p.steps = p.steps[:min(int(e.Step), len(p.steps))]
		case task.Ended:
			p.ended = e
			close(p.done)
		}
	})
}

// tinyTask puts a small model and some rows into p's store and signs a job over them.
func tinyTask(t *testing.T, p *peer, members, steps int, more ...string) task.Task {
	t.Helper()
	dir := t.TempDir()
	must(t, tiny.Write(dir, tiny.Shape{}, 1))
	return signTask(t, p, dir, tinyRows(t, p.deps.Store, 40), 40, tinySpec(members, steps, more))
}

// signTask puts a model into p's store and signs a job over it and rows.
func signTask(t testing.TB, p *peer, dir string, rows cid.Cid, n uint64, text string) task.Task {
	t.Helper()
	_, model, err := shard.ImportDir(t.Context(), p.deps.Store, dir, shard.KindModel, "tiny", nil)
	must(t, err)
	spec, err := job.Parse([]byte(text))
	must(t, err)
	must(t, spec.Validate())
	spec.Submitted()
	canonical, err := spec.Canonical()
	must(t, err)
	tk, err := task.Sign(task.Terms{Submitter: p.host.ID(), Spec: canonical, Model: model, Data: rows, Rows: n, Params: 1},
		p.host.Boot(), p.host.Key())
	must(t, err)
	return tk
}

// tinySpec is a small job; more are lines that replace those of the same key.
func tinySpec(members, steps int, more []string) string {
	lines := []string{
		"version: shoal/v1", "name: tiny", `base_model: "cid:m"`, "adapter: lora", "lora_target_linear: true",
		`datasets: [{path: "cid:d"}]`, "micro_batch_size: 1", "global_batch_size: 4", fmt.Sprint("max_steps: ", steps),
		"optimizer: {lr: 1e-2}", fmt.Sprintf("swarm: {min_peers: %d}", members), "checkpoint: {every_steps: 5}",
	}
	for _, m := range more {
		key, _, _ := strings.Cut(m, ":")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, key+":") })
	}
	return strings.Join(append(lines, more...), "\n") + "\n"
}

func tinyRows(t *testing.T, st shard.Store, n int) cid.Cid {
	t.Helper()
	rows := make([][]int32, n)
	for i := range rows {
		for k := range 24 {
			rows[i] = append(rows[i], int32(3+(i*7+k*k)%200))
		}
	}
	return storeRows(t, st, rows)
}

func storeRows(t testing.TB, st shard.Store, rows [][]int32) cid.Cid {
	t.Helper()
	w := data.NewWriter(st)
	for _, ids := range rows {
		must(t, w.Add(t.Context(), data.Example{IDs: ids, Labels: ids}))
	}
	m, err := w.Close(t.Context(), "rows")
	must(t, err)
	c, err := shard.SaveManifest(t.Context(), st, &m)
	must(t, err)
	return c
}

// alone trains tk in one process.
func alone(t *testing.T, p *peer, tk task.Task) []trainer.StepReport {
	t.Helper()
	j := &Job{Deps: p.deps, task: tk}
	m, err := j.openMaterials(t.Context())
	must(t, err)
	c := j.config(m)
	c.Owners, c.Whole, c.Line = false, false, nil
	tr, err := trainer.New(c)
	must(t, err)
	defer tr.Close()
	var steps []trainer.StepReport
	must(t, tr.Run(t.Context(), tr.Local(), &trainer.Solo{}, func(r trainer.StepReport) { steps = append(steps, r) }))
	return steps
}

func connect(t testing.TB, ps []*peer) {
	t.Helper()
	for i, p := range ps {
		for _, q := range ps[:i] {
			must(t, p.host.Connect(t.Context(), q.host.Addrs()[0]))
		}
	}
}

func TestSwarmEqualsOneProcess(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var ps []*peer
			for range n {
				ps = append(ps, newPeer(t))
			}
			connect(t, ps)
			tk := tinyTask(t, ps[0], n, 12)
			want := alone(t, ps[0], tk)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, p := range ps {
				go p.run(ctx, tk)
			}
			for i, p := range ps {
				select {
				case <-p.done:
				case <-ctx.Done():
					t.Fatalf("node %d did not finish: %d steps", i, len(p.steps))
				}
				if p.ended.State != "done" {
					t.Fatalf("node %d ended %+v", i, p.ended)
				}
				compare(t, p.steps, want)
			}
		})
	}
}

// TestLateJoinerWorks starts a third node in mid-run: it is brought up to date and given positions.
func TestLateJoinerWorks(t *testing.T) {
	ps := []*peer{newPeer(t), newPeer(t), newPeer(t)}
	connect(t, ps)
	tk := tinyTask(t, ps[0], 2, 400)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go ps[0].run(ctx, tk)
	go ps[1].run(ctx, tk)
	<-ps[0].tenth
	go ps[2].run(ctx, tk)
	for _, p := range ps {
		select {
		case <-p.done:
		case <-ctx.Done():
			t.Fatal("the job did not end")
		}
	}
	late := 0
	for _, r := range ps[0].rounds {
		for _, m := range r.Members {
			if m.Peer == ps[2].host.ID() && len(m.Positions) > 0 {
				late++
			}
		}
	}
	if late == 0 {
		t.Errorf("the late joiner worked in none of %d rounds", len(ps[0].rounds))
	}
}

func compare(t *testing.T, got, want []trainer.StepReport) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d steps, want %d", len(got), len(want))
	}
	for i := range want {
		if d := math.Abs(got[i].Loss - want[i].Loss); d > 1e-5 || got[i].Step != want[i].Step || got[i].Tokens != want[i].Tokens {
			t.Errorf("step %d: %+v, want %+v", i+1, got[i], want[i])
		}
	}
}
