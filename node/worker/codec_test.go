package worker

import (
	"context"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// Gradients that travel in fewer bits train as well: three nodes, 24 steps of full training of a real checkpoint. The
// stated gaps are about twice what was measured.
func TestCodecCurves(t *testing.T) {
	numbersOnly(t)
	const model = "../../../shared/data/models/stories260K"
	if _, err := os.Stat(model); err != nil {
		t.Skip("no test data: ../shared/data is not there")
	}
	var ps []*peer
	for range 3 {
		ps = append(ps, newPeer(t))
	}
	connect(t, ps)
	exact := curve(t, ps, model, "fp32")
	for codec, limit := range map[string]struct{ any, last float64 }{"bf16": {0.0004, 0.0001}, "int8": {0.07, 0.002}} {
		got := curve(t, ps, model, codec)
		var most, last float64
		for i := range exact {
			d := math.Abs(got[i].Loss - exact[i].Loss)
			most = max(most, d)
			if i >= len(exact)-10 {
				last += d / 10
			}
		}
		t.Logf("%s: loss %.4f → %.4f as with fp32 → %.4f; gap at most %.1e, over the last ten steps %.1e",
			codec, got[0].Loss, got[len(got)-1].Loss, exact[len(exact)-1].Loss, most, last)
		if most > limit.any || last > limit.last || most == 0 {
			t.Errorf("%s: gap at most %g, over the last ten steps %g; want %g and %g, and not none", codec, most, last, limit.any, limit.last)
		}
	}
}

// curve is the losses of a job of all ps.
func curve(t *testing.T, ps []*peer, model, codec string) []trainer.StepReport {
	t.Helper()
	_, base, err := shard.ImportDir(t.Context(), ps[0].deps.Store, model, shard.KindModel, "stories", nil)
	must(t, err)
	spec, err := job.Parse(fmt.Appendf(nil, `version: shoal/v1
name: curve
base_model: cid:m
datasets: [{path: "cid:d"}]
micro_batch_size: 4
global_batch_size: 12
max_steps: 24
optimizer: {lr: 1e-3}
swarm: {min_peers: %d}
wire: {gradients: %s}
`, len(ps), codec))
	must(t, err)
	must(t, spec.Validate())
	canonical, err := spec.Canonical()
	must(t, err)
	tk, err := task.Sign(task.Terms{Submitter: ps[0].host.ID(), Spec: canonical, Model: base, Data: tinyRows(t, ps[0].deps.Store, 40), Rows: 40, Params: 1},
		ps[0].host.Boot(), ps[0].host.Key())
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, p := range ps {
		p.steps, p.done, p.tenth = nil, make(chan struct{}), make(chan struct{})
		go p.run(ctx, tk)
	}
	for _, p := range ps {
		select {
		case <-p.done:
		case <-ctx.Done():
			t.Fatal("the job did not end")
		}
		if p.ended.State != "done" {
			t.Fatalf("ended %+v", p.ended)
		}
	}
	return ps[0].steps
}
