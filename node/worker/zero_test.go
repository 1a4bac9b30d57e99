package worker

import (
	"context"
	"testing"
	"time"
)

// TestOwnersStep: where owners step, members train as one process does.
func TestOwnersStep(t *testing.T) {
	ps := []*peer{newPeer(t), newPeer(t), newPeer(t)}
	connect(t, ps)
	tk := tinyTask(t, ps[0], 3, 12, "parallel: {zero: 2}")
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
		compare(t, p.steps, want)
	}
}
