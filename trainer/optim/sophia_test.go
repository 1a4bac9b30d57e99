package optim_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// TestReferenceSophia holds ten steps on a micro model against float64, with the labels that were drawn there. The
// reference learns its curvature from drawn labels at every position, this test from the same.
func TestReferenceSophia(t *testing.T) {
	dir, base := modeltest.Data(t, "reference", "optim"), modeltest.Data(t, "reference", "models", "llama_gqa")
	var meta struct {
		Optimizers map[string]struct {
			Hyper struct {
				LR, Beta1, Beta2, Rho float64
				Decay                 float64 `json:"weight_decay"`
				K                     int
				BS                    int64
			}
			Loss []float64 `json:"loss_before_step"`
		}
	}
	modeltest.JSON(t, filepath.Join(dir, "meta.json"), &meta)
	want := meta.Optimizers["sophia_g"]
	h := want.Hyper
	rule := optim.Sophia{Beta1: h.Beta1, Beta2: h.Beta2, Rho: h.Rho, Eps: 1e-15, Every: h.K, Decay: optim.Decay{WeightDecay: h.Decay}}

	m, err := model.Open(safetensors.Dir(base))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	n := 0
	for _, p := range m.Params {
		p.Off = n
		n += p.Len()
	}
	dev := modeltest.Device(t)
	st, err := stage.New(dev, m, nil, m.Params, n)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	opt, err := rule.Open(st.Stream, m.Params, n)
	if err != nil {
		t.Fatal(err)
	}
	defer opt.Close()
	mean, err := kernels.Alloc(dev, dtype.F32, 1, n)
	if err != nil {
		t.Fatal(err)
	}
	gradient := func(step uint64, rows, labels [][]int32) (sums objective.Sums) {
		var seqs []model.Sequence
		for i := range rows {
			seqs = append(seqs, model.Sequence{IDs: rows[i], Target: labels[i]})
		}
		st.ZeroGrad()
		sums, err := st.Forward(context.Background(), step, seqs)
		if err == nil {
			err = st.Backward(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		st.Stream.Quotient(mean, st.G, float32(sums.Tokens))
		return sums
	}
	file := modeltest.File(t, filepath.Join(dir, "batches.safetensors"))
	ids, drawn := modeltest.Rows(t, file, "input_ids"), modeltest.Rows(t, file, "sophia_sampled_labels")
	for step := uint64(1); step <= 10; step++ {
		rows := ids[2*step-2 : 2*step]
		if c := opt.(optim.Curved); c.Due(step) {
			if s := gradient(step, rows, drawn[2*step-2:2*step]); s.Tokens != h.BS {
				t.Fatalf("%d tokens, want %d", s.Tokens, h.BS)
			}
			c.Curve(mean, h.BS)
		}
		sums := gradient(step, rows, [][]int32{objective.Targets(rows[0]), objective.Targets(rows[1])})
		if d := math.Abs(sums.Loss/float64(sums.Tokens) - want.Loss[step-1]); d > 1e-4 {
			t.Errorf("step %d: loss is off by %v", step, d)
		}
		opt.Step(optim.Now{Step: step, LR: h.LR, Clip: 1}, st.W, mean, 0, n)
		if step == 1 || step == 2 || step == 10 {
			d := distance(t, st, modeltest.File(t, filepath.Join(dir, fmt.Sprintf("sophia_g.step%d.safetensors", step))),
				modeltest.File(t, filepath.Join(base, safetensors.SingleFile)))
			t.Logf("after step %d weights are off by %.2g of the way", step, d)
			if d > 2e-3 {
				t.Errorf("after step %d weights are off by %.2g of the way", step, d)
			}
		}
	}
}

// distance is how far a stage's weights are from the reference, of the way that the reference has come.
func distance(t *testing.T, st *stage.Stage, ref, start *safetensors.File) float64 {
	t.Helper()
	var off, moved float64
	for _, p := range st.Train {
		got, err := st.Value(p)
		if err != nil {
			t.Fatal(err)
		}
		want, from := modeltest.F64(t, ref, p.Name), modeltest.F64(t, start, p.Name)
		for i, x := range got {
			off += (float64(x) - want[i]) * (float64(x) - want[i])
			moved += (from[i] - want[i]) * (from[i] - want[i])
		}
	}
	return math.Sqrt(off / moved)
}
