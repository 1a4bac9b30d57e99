package sim

import (
	"bytes"
	"flag"
	"testing"
	"time"
)

var (
	nodes = flag.Int("nodes", 30, "members of TestChurn")
	span  = flag.Duration("span", 10*time.Minute, "virtual time of TestChurn")
	inner = flag.Int("inner", 0, "inner steps of TestChurn; 0: allreduce")
	churn = flag.Float64("churn", 0.1, "part of them that goes per minute")
)

// TestChurn: a swarm that loses a tenth of its members per minute commits its rounds, and the invariants hold.
func TestChurn(t *testing.T) {
	r, err := New(Config{Seed: 1, Nodes: *nodes, For: *span, Inner: *inner, Churn: *churn, Clean: 0.3})
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Go(t.Context(), func(done time.Duration, rounds int) {
		t.Logf("%v: %d rounds, wall %v", done, rounds, time.Since(r.began))
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	res.Print(&b)
	t.Log("\n" + b.String())
	if err := res.SVG(&b); err != nil || b.Len() < 1000 {
		t.Errorf("picture of %d bytes, %v", b.Len(), err)
	}
	if len(res.Rounds) < int(*span/time.Minute) || res.Committed() < 0.95 {
		t.Errorf("%.1f %% of the rounds committed in time", 100*res.Committed())
	}
}

// TestDiLoCo: rounds close with what arrived, and what did not is worked on later, each position once; through partitions
// too, in which a part may go on by itself for a while.
func TestDiLoCo(t *testing.T) {
	for seed := range uint64(8) {
		cfg := Config{Seed: seed, Nodes: 5 + int(seed), For: 6 * time.Minute, Round: 12 * time.Second, Inner: 4, Churn: 0.3, Clean: 0.5}
		if seed%2 == 1 {
			cfg.Partition = 2 * time.Minute
		}
		r, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Go(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		res.Print(&b)
		t.Log("\n" + b.String())
		if len(res.Rounds) < 10 || cfg.Partition == 0 && res.Figures.Committed < 0.9 {
			t.Errorf("seed %d: %d rounds, %.1f %% of them in time", seed, len(res.Rounds), 100*res.Figures.Committed)
		}
	}
}

// TestSameSeedSameRun: everything follows from the seed, partitions too.
func TestSameSeedSameRun(t *testing.T) {
	var texts [2]string
	for i := range texts {
		r, err := New(Config{Seed: 7, Nodes: 12, For: 5 * time.Minute, Round: 10 * time.Second, Churn: 0.3, Clean: 0.5, Partition: 2 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Go(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Wall = 0
		var b bytes.Buffer
		res.Print(&b)
		texts[i] = b.String()
	}
	if texts[0] != texts[1] {
		t.Errorf("first\n%s\nsecond\n%s", texts[0], texts[1])
	}
}
