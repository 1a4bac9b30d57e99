package trainer_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// plainly hides from Run that a Solo is one.
type plainly struct{ *trainer.Solo }

// TestSoloOnTheDevice: a Solo whose gradient stays on the device takes the steps of one whose gradient travels, bit for
// bit.
func TestSoloOnTheDevice(t *testing.T) {
	spec := valid(t, job.Spec{MicroBatchSize: 2, GlobalBatchSize: 3, MaxSteps: 3, Optimizer: job.Optimizer{LR: 1e-2, WeightDecay: 0.1},
		MaxGradNorm: new(0.05)})
	var hashes [2][32]byte
	var norms [2]float64
	for i := range hashes {
		tr := open(t, modeltest.Device(t), trainer.Config{Spec: spec, Model: base(t, stories), Rows: passages()})
		var col trainer.Collective = &trainer.Solo{}
		if i == 1 {
			l, _ := tr.Layout()
			col = plainly{&trainer.Solo{Layout: l}}
		}
		if err := tr.Run(t.Context(), tr.Local(), col, func(r trainer.StepReport) { norms[i] += r.GradNorm }); err != nil {
			t.Fatal(err)
		}
		var err error
		if hashes[i], err = tr.StateHash(); err != nil {
			t.Fatal(err)
		}
		closed(t, tr)
	}
	if hashes[0] != hashes[1] || norms[0] != norms[1] || norms[0] == 0 {
		t.Errorf("norms %v and %v, states %x and %x", norms[0], norms[1], hashes[0], hashes[1])
	}
}
