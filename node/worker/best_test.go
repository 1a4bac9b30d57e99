package worker

import (
	"context"
	"crypto/ed25519"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// TestBest: which weights are the best is known to all members, also to one that joins when the job is over, and all
// export the same; those that hold checkpoints hold these too, so that they are there without the submitter.
func TestBest(t *testing.T) {
	ps := []*peer{newPeer(t), newPeer(t), newPeer(t)}
	connect(t, ps)
	terms := tinyTask(t, ps[0], 2, 14, "val_set_size: 4", "eval: {every_steps: 3, keep_best: true}", "optimizer: {lr: 3e-1}").Terms
	held := make([][]int32, 24) // nothing like the rows that are learned, so that they are soon forgotten
	for i := range held {
		held[i] = []int32{250, int32(251 + i%8), 250, int32(251 + i*3%8)}
	}
	terms.Held = storeRows(t, ps[0].deps.Store, held)
	tk, err := task.Sign(terms, ps[0].host.Boot(), ps[0].key)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	others := tk
	others.Mine = false
	go ps[0].run(ctx, tk)
	go ps[1].run(ctx, others)
	<-ps[0].done
	<-ps[1].done
	go ps[2].run(ctx, others) // nothing is left to do
	want := bestOf(ctx, t, ps[0], tk)
	if want.Step == 14 {
		t.Error("the best weights are the last ones: this shows nothing")
	}
	for _, p := range ps[1:] {
		for got := (task.Checkpoint{}); got.Manifest != want.Manifest; got = bestOf(ctx, t, p, tk) {
			await(ctx, t)
		}
	}
	for k := bestOf(ctx, t, ps[1], tk); !k.Here; k = bestOf(ctx, t, ps[1], tk) { // it holds the last checkpoint
		await(ctx, t)
	}
	dir := t.TempDir()
	must(t, ps[0].Export(ctx, tk, "lora", filepath.Join(dir, "0")))
	ps[0].stop()
	for i, p := range ps[1:] {
		out := filepath.Join(dir, "other", string(rune('1'+i)))
		must(t, p.Export(ctx, tk, "lora", out))
		a, err := os.ReadFile(filepath.Join(dir, "0", "adapter_model.safetensors"))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(out, "adapter_model.safetensors"))
		must(t, err)
		if !slices.Equal(a, b) {
			t.Errorf("node %d exports other weights than the submitter", i+1)
		}
	}
}

// await lets other goroutines and processes work.
func await(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal("it takes too long")
	case <-time.After(10 * time.Millisecond):
	}
}

// bestOf is the checkpoint that a node takes for the best; zero: none.
func bestOf(ctx context.Context, t *testing.T, p *peer, tk task.Task) (best task.Checkpoint) {
	t.Helper()
	list, err := p.Checkpoints(ctx, tk)
	must(t, err)
	for _, k := range list {
		if k.Best {
			best = k
		}
	}
	return best
}

// FuzzOpenBest: nothing but the submitter's word is taken.
func FuzzOpenBest(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	must(f, err)
	id, job := record.IDOf(key.Public().(ed25519.PublicKey)), record.CID([]byte("job"))
	word := func(w bestWord, context string) []byte {
		s, _, err := record.Sign(record.Header{Context: context, Version: record.Version, Job: job}, w, id, key)
		if err != nil {
			f.Fatal(err)
		}
		b, err := record.Encode(s)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	good := bestWord{Number: 3, Step: 7, Loss: 1.5, Manifest: job}
	f.Add(word(good, contextBest))
	f.Add(word(good, "shoal/job"))
	f.Add(word(bestWord{Number: 0, Step: 7, Manifest: job}, contextBest))
	f.Add(word(bestWord{Number: 1, Loss: math.NaN(), Manifest: job}, contextBest))
	f.Add(word(bestWord{Number: 1}, contextBest))
	f.Add([]byte{0xa3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := openBest(b, job, id); err == nil && w != good {
			t.Errorf("took %+v", w)
		}
	})
}
