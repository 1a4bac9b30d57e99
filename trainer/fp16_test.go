package trainer_test

import (
	"math"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// TestFP16Curve holds 50 steps whose products are computed in binary16 against the same steps in float64. An operand is
// off by up to 2⁻¹¹ of itself, an eighth of bfloat16's.
func TestFP16Curve(t *testing.T) {
	var meta struct{ Full, Lora curve }
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	spec := fullSpec()
	spec.DType, spec.MicroBatchSize = job.FP16, 4
	tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: safetensors.Dir(modeltest.Data(t, "models", "stories260K")),
		Rows: rows(modeltest.Rows(t, data, "train_ids"))})
	steps := uint64(50)
	if tr.Device().Info().Kernel == "generic" {
		steps = 2
	}
	loss, norm, skipped := 0.0, 0.0, 0
	for i, r := range train(t, tr, steps) {
		loss = max(loss, math.Abs(r.Loss-meta.Full.F64.Loss[i]))
		norm = max(norm, math.Abs(r.GradNorm/meta.Full.F64.Norm[i]-1))
		skipped = r.Passed
	}
	t.Logf("loss differs by at most %.2g, gradient norm by %.2g of itself; %d steps skipped", loss, norm, skipped)
	if loss > 3e-3 || norm > 3e-3 || skipped > 0 {
		t.Errorf("loss differs by %.2g (limit 3e-3), gradient norm by %.2g of itself (limit 3e-3), %d steps skipped", loss, norm, skipped)
	}
}

// TestFP16Overflow: a loss scale that is too large skips steps, leaves the state alone, halves until numbers are finite,
// and is the same in a run that goes on from a snapshot.
func TestFP16Overflow(t *testing.T) {
	c := trainer.Config{Spec: valid(t, tinySpec(job.Spec{MaxSteps: 12, DType: job.FP16})), Model: base(t, tiny.Shape{}), Rows: lesson(20)}
	tr := newTrainer(t, c)
	state, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	state.Scale.Factor = 1 << 20
	if err := tr.Restore(state); err != nil {
		t.Fatal(err)
	}
	before := hash(t, tr)
	first := train(t, tr, 2)
	if !first[0].Skipped || !first[1].Skipped || hash(t, tr) != before {
		t.Fatalf("steps whose numbers overflow were taken: %+v", first)
	}
	if first[0].LossScale != 1<<20 || first[1].LossScale != 1<<19 || first[1].Passed != 2 || first[1].Tokens == 0 {
		t.Errorf("%+v", first)
	}
	if state, err = tr.Snapshot(); err != nil {
		t.Fatal(err)
	}
	again := newTrainer(t, c)
	if err := again.Restore(state); err != nil {
		t.Fatal(err)
	}
	rest, same := train(t, tr, 12), train(t, again, 12)
	last := rest[len(rest)-1]
	if last.Skipped || last.LossScale >= 1<<18 || last.LossScale < 1 || hash(t, tr) != hash(t, again) {
		t.Errorf("at the end: %+v", last)
	}
	for i := range rest {
		if rest[i].LossScale != same[i].LossScale || rest[i].Passed != same[i].Passed {
			t.Errorf("%+v, after a snapshot %+v", rest[i], same[i])
		}
	}
}
