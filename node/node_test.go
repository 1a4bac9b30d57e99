package node

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

func tinySpec(dir, name string) job.Spec {
	return job.Spec{
		Version: job.Version, Name: name, BaseModel: filepath.Join(dir, "model"), Adapter: job.AdapterLora,
		Datasets: []job.Dataset{{Path: filepath.Join(dir, "rows.jsonl")}}, MaxSteps: 5, Optimizer: job.Optimizer{LR: 0.01},
	}
}

func submit(t *testing.T, c *api.Client, spec job.Spec) (api.Job, cid.Cid) {
	t.Helper()
	j, err := c.Submit(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := cid.Decode(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	return j, id
}

// A job's life as the API tells it: submitted, stepping, going back, done, exported.
func TestJobLife(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	_, c, _ := newNode(t, t.TempDir(), h, nil)
	ctx := t.Context()
	j, id := submit(t, c, tinySpec(dir, "life"))
	<-h.ran
	if j.Steps != 5 || !j.Mine || j.Spec.BaseModel != "model" || j.Spec.Datasets[0].Path != "rows.jsonl" {
		t.Errorf("submitted %+v; local paths must not be in it", j)
	}
	h.do(id, stepped(1, 3), stepped(2, 2.5), task.Note{Text: "hello"}, stepped(2, 2.5), stepped(3, 2))
	if _, err := c.Result(ctx, "life", api.ResultRequest{}); err == nil || !strings.Contains(err.Error(), "--partial") {
		t.Errorf("result of a running job: %v", err)
	}
	h.do(id, task.Back{Step: 1}, stepped(2, 2.4), task.Settled{Step: 2}, stepped(3, 1.9), task.Ended{State: api.Done})

	var log []string
	err := c.Events(ctx, j.ID, 0, func(e api.Event) error {
		switch e.Kind {
		case api.EventStep:
			log = append(log, "step "+string(rune('0'+e.Step.Step)))
		case api.EventBack:
			log = append(log, "back "+string(rune('0'+e.To)))
		default:
			log = append(log, e.Kind+" "+e.State+e.Text)
		}
		return nil
	})
	want := []string{"state running", "step 1", "step 2", "note hello", "step 3", "back 1", "step 2", "step 3", "state done"}
	if d := cmp.Diff(want, log); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	m, err := c.Metrics(ctx, "life", 0)
	if err != nil || len(m) != 3 || m[1].Loss != 2.4 || m[2].Loss != 1.9 {
		t.Errorf("metrics %+v, %v", m, err)
	}
	got, err := c.Job(ctx, j.ID[len(j.ID)-8:])
	if err != nil || got.State != api.Done || got.Settled != 2 || got.Step != 3 || got.Loss != 1.9 {
		t.Errorf("job %+v, %v", got, err)
	}
	files := untar(t, c, "life")
	if files["lora.txt"] != filepath.Join(dir, "model") || strings.Count(files[api.MetricsFile], "\n") != 3 {
		t.Errorf("result %q", files)
	}
}

func untar(t *testing.T, c *api.Client, id string) map[string]string {
	t.Helper()
	r, err := c.Result(t.Context(), id, api.ResultRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data)
	}
}

// Jobs that were not over run again after a restart, with their events; the others stay as they ended.
func TestRestart(t *testing.T) {
	h, dir, home := newHand(), tinyJob(t), t.TempDir()
	_, c, stop := newNode(t, home, h, nil)
	_, over := submit(t, c, tinySpec(dir, "over"))
	<-h.ran
	h.do(over, task.Ended{State: api.Failed, Why: "no luck"})
	j, id := submit(t, c, tinySpec(dir, "going"))
	<-h.ran
	h.do(id, stepped(1, 3))
	stop()

	h = newHand()
	_, c, _ = newNode(t, home, h, nil)
	if again := <-h.ran; again != id {
		t.Errorf("resumed %v, want %v", again, id)
	}
	h.do(id, stepped(1, 3), stepped(2, 2)) // a runtime may tell again what it told before
	if m, err := c.Metrics(t.Context(), j.ID, 0); err != nil || len(m) != 2 {
		t.Errorf("metrics %+v, %v", m, err)
	}
	got, err := c.Job(t.Context(), "over")
	if err != nil || got.State != api.Failed || got.Why != "no luck" {
		t.Errorf("job %+v, %v", got, err)
	}
	steps := 0
	err = c.Events(t.Context(), "over", 0, func(e api.Event) error { steps++; return nil })
	if err != nil || steps == 0 {
		t.Errorf("events of a job that is over: %d, %v", steps, err)
	}
}

// Two nodes: what one submits the other hears of, takes up to its limit, and lets wait beyond.
func TestOffers(t *testing.T) {
	ha, hb, dir := newHand(), newHand(), tinyJob(t)
	a, ca, _ := newNode(t, t.TempDir(), ha, nil)
	_, first := submit(t, ca, tinySpec(dir, "before"))
	<-ha.ran
	_, cb, _ := newNode(t, t.TempDir(), hb, func(c *config.Config) { c.Bootstrap = a.host.Addrs()[:1] })
	if got := <-hb.ran; got != first { // a late node is told at once
		t.Fatalf("b runs %v, want %v", got, first)
	}
	_, second := submit(t, ca, tinySpec(dir, "after"))
	<-ha.ran
	await(t, func() bool { js, err := cb.Jobs(t.Context()); return err == nil && len(js) == 2 })
	if j, err := cb.Job(t.Context(), "after"); err != nil || j.State != api.Waiting || j.Mine {
		t.Errorf("second job on b: %+v, %v", j, err)
	}
	if _, err := cb.Cancel(t.Context(), "after"); err == nil || !strings.Contains(err.Error(), "alone can cancel") {
		t.Errorf("cancel of another's job: %v", err)
	}
	hb.do(first, task.Ended{State: api.Done})
	if got := <-hb.ran; got != second {
		t.Errorf("b runs %v next, want %v", got, second)
	}
	if j, err := ca.Cancel(t.Context(), "before"); err != nil || j.Name != "before" {
		t.Errorf("cancel: %+v, %v", j, err)
	}
	await(t, func() bool { j, err := ca.Job(t.Context(), "before"); return err == nil && j.State == api.Cancelled })
}

func TestPolicy(t *testing.T) {
	mine := task.Task{Mine: true, Terms: task.Terms{MemBytes: 1 << 40}}
	big := task.Task{Terms: task.Terms{MemBytes: 1 << 40}}
	for name, tc := range map[string]struct {
		p    policy
		t    task.Task
		want bool
	}{
		"own":      {policy{}, mine, true},
		"none":     {policy{maxJobs: 0}, big, false},
		"big":      {policy{maxJobs: 1, maxMemory: 1 << 30}, big, false},
		"no limit": {policy{maxJobs: 1}, big, true},
	} {
		if err := tc.p.accepts(tc.t); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A full disk pauses the job with the reason shown, and the node goes on.
func TestFullDisk(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	n, c, _ := newNode(t, t.TempDir(), h, nil)
	_, id := submit(t, c, tinySpec(dir, "full"))
	<-h.ran
	h.command(id, func(func(task.Event)) error { return shard.ErrFull })
	await(t, func() bool { i, err := c.Info(t.Context()); return err == nil && strings.Contains(i.Paused, "full") })
	j, err := c.Job(t.Context(), "full")
	if err != nil || j.State != api.Waiting || !strings.Contains(j.Why, "max_disk") {
		t.Errorf("job %+v, %v", j, err)
	}
	n.jobs.mu.Lock()
	e := n.jobs.table[id]
	n.jobs.mu.Unlock()
	n.jobs.retry(e) // what the timer does
	if again := <-h.ran; again != id {
		t.Errorf("runs %v again, want %v", again, id)
	}
}

func TestSubmitRefused(t *testing.T) {
	dir := tinyJob(t)
	_, c, _ := newNode(t, t.TempDir(), newHand(), nil)
	if err := os.WriteFile(filepath.Join(dir, "bad.jsonl"), []byte("{\"text\": \"x\"}\n{\"text\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*job.Spec)
		want   string
	}{
		"no model":      {func(s *job.Spec) { s.BaseModel = "nowhere" }, `"nowhere" is not there`},
		"not a model":   {func(s *job.Spec) { s.BaseModel = dir }, "config.json"},
		"no data":       {func(s *job.Spec) { s.Datasets[0].Path = "nothing.jsonl" }, "shoal data add"},
		"bad row":       {func(s *job.Spec) { s.Datasets[0].Path = filepath.Join(dir, "bad.jsonl") }, "bad.jsonl:2"},
		"no adapter":    {func(s *job.Spec) { s.LoraModelDir = dir }, "adapter_config.json"},
		"contradiction": {func(s *job.Spec) { s.NumEpochs = 2 }, "num_epochs"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tinySpec(dir, "refused")
			tc.change(&spec)
			_, err := c.Submit(t.Context(), spec, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	if js, err := c.Jobs(t.Context()); err != nil || len(js) != 0 {
		t.Errorf("refused jobs are in the table: %+v, %v", js, err)
	}
}

// The library works with the daemon and without, and one home has one owner.
func TestLibrary(t *testing.T) {
	dir, home := tinyJob(t), t.TempDir()
	n, c, stop := newNode(t, home, newHand(), nil)
	item, err := c.ImportModel(t.Context(), api.ImportRequest{Path: filepath.Join(dir, "model"), Name: "tiny"}, nil)
	if err != nil || item.Name != "tiny" {
		t.Fatalf("import: %+v, %v", item, err)
	}
	if _, err := OpenLibrary(n.cfg); !errors.Is(err, ErrBusy) {
		t.Errorf("second owner: %v", err)
	}
	stop()
	l, err := OpenLibrary(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.AddDataset(t.Context(), api.ImportRequest{Path: filepath.Join(dir, "rows.jsonl")}, func(string, int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	models, err := l.Models(context.Background())
	if d := cmp.Diff([]api.Item{item}, models); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	used := l.store.Stats().Used
	if _, err := l.ImportModel(t.Context(), api.ImportRequest{Path: filepath.Join(dir, "model"), Name: "same"}, func(string, int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	if r, err := l.RemoveModel(t.Context(), "same"); err != nil || r.ID != item.CID || r.Freed != 0 || l.store.Stats().Used != used {
		t.Errorf("another name holds its blocks: %+v, %v", r, err)
	}
	if _, err := l.RemoveModel(t.Context(), "same"); err == nil || !strings.Contains(err.Error(), "shoal model ls") {
		t.Errorf("removed twice: %v", err)
	}
	spec := tinySpec(dir, "names")
	spec.BaseModel, spec.Datasets[0].Path = "tiny", "rows"
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	in, err := l.Sources().Inputs(t.Context(), &spec, shard.NewMem(), nil)
	if err != nil || in.Built.Stats.Rows != 8 || in.Params == 0 || in.MemBytes < in.Params {
		t.Errorf("inputs by name: %+v, %v", in, err)
	}
	// Memory is asked for the rows that a step can have, not for a batch that never fills.
	var need []uint64
	for _, batch := range []int{8, 1 << 20} {
		spec.MaxSteps, spec.NumEpochs, spec.MicroBatchSize, spec.GlobalBatchSize = 0, 1, batch, batch
		in, err := l.Sources().Inputs(t.Context(), &spec, shard.NewMem(), nil)
		if err != nil {
			t.Fatal(err)
		}
		need = append(need, in.MemBytes)
	}
	if need[0] != need[1] {
		t.Errorf("memory for 8 rows: %d in batches of 8, %d in batches of 2^20", need[0], need[1])
	}
	spec.Parallel.Pipeline = "2"
	if in, err := l.Sources().Inputs(t.Context(), &spec, shard.NewMem(), nil); err != nil || in.MemBytes >= need[0] {
		t.Errorf("memory in two stages: %+v, %v, %d in one", in, err, need[0])
	}
	spec.Parallel.Pipeline = "99"
	if _, err := l.Sources().Inputs(t.Context(), &spec, shard.NewMem(), nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("more stages than units: %v", err)
	}
}

// Stopping ends event streams of followers without telling them that the job is over.
func TestStopTellsFollowers(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	_, c, stop := newNode(t, t.TempDir(), h, nil)
	j, _ := submit(t, c, tinySpec(dir, "follow"))
	<-h.ran
	open, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Events(context.Background(), j.ID, 0, func(api.Event) error { close(open); return nil })
	}()
	<-open
	stop()
	select {
	case err := <-ended:
		if !errors.Is(err, api.ErrDown) {
			t.Errorf("got %v, want ErrDown", err)
		}
	case <-time.After(ShutdownTime):
		t.Error("the follower hangs")
	}
}

// What a node forgets gives its space back; while a job runs, later.
func TestRemoveModel(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	n, c, _ := newNode(t, t.TempDir(), h, nil)
	if _, err := c.ImportModel(t.Context(), api.ImportRequest{Path: filepath.Join(dir, "model"), Name: "tiny"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddDataset(t.Context(), api.ImportRequest{Path: filepath.Join(dir, "rows.jsonl"), Name: "rows"}, nil); err != nil {
		t.Fatal(err)
	}
	if r, err := c.RemoveModel(t.Context(), "tiny"); err != nil || r.Freed == 0 || r.Later {
		t.Errorf("%+v, %v", r, err)
	}
	submit(t, c, tinySpec(dir, "long"))
	<-h.ran
	if r, err := c.RemoveDataset(t.Context(), "rows"); err != nil || r.Freed != 0 || !r.Later {
		t.Errorf("while a job runs: %+v, %v", r, err)
	}
	if list, err := n.lib.Models(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A node starts without a file of its store, says which models are incomplete, and is whole again when they are imported anew.
func TestStartsWithoutBlocks(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	big := filepath.Join(dir, "rows.jsonl")
	if err := os.WriteFile(big, []byte(strings.Repeat(`{"text": "the same again"}`+"\n", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, c, stop := newNode(t, home, newHand(), nil)
	if _, err := c.AddDataset(t.Context(), api.ImportRequest{Path: big, Name: "big"}, nil); err != nil {
		t.Fatal(err)
	}
	stop()
	files, err := filepath.Glob(filepath.Join(home, storeDir, "blocks", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of blocks, %v", len(files), err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	n, c, _ := newNode(t, home, newHand(), nil)
	if of, err := holders(t.Context(), n.store, n.store.Lost().Blocks); err != nil || len(of) != 1 || of[0] != "data/big" {
		t.Errorf("lost of %q, %v", of, err)
	}
	if store := n.cfgChecks()[3]; store.OK || !strings.Contains(store.Detail, "data big lacks") {
		t.Errorf("%+v", store)
	}
	if _, err := c.AddDataset(t.Context(), api.ImportRequest{Path: big, Name: "big"}, nil); err != nil {
		t.Fatal(err)
	}
	if store := n.cfgChecks()[3]; !store.OK {
		t.Errorf("%+v", store)
	}
}
