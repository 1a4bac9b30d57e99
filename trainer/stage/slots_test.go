package stage_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// TestSlotsShare: several micro-batches on their way take what each keeps, and what a block takes for itself once.
func TestSlotsShare(t *testing.T) {
	const tokens, hidden, live = 384, 192, 4
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{Hidden: hidden, Inner: 768, Layers: 3, Context: 512}, 3); err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(safetensors.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	u := setup{m: m, trained: m.Params}
	u.place()
	dev := modeltest.Device(t)
	kernels.PackCache(dev, 0)
	s, err := stage.NewPart(dtype.F32, dev, m, nil, u.trained, model.Part{Lo: 1, Hi: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Checkpoint = true
	q := []model.Sequence{{IDs: make([]int32, tokens), Target: make([]int32, tokens)}}
	x := make([]float32, tokens*hidden)
	for i := range x {
		x[i] = float32(i%11-5) * 1e-2
	}
	used := func(slots int) int64 {
		s.ZeroGrad()
		for i := range slots {
			if _, _, err := s.Forth(t.Context(), i, 1, q, x); err != nil {
				t.Fatal(err)
			}
		}
		for i := range slots {
			if _, err := s.Back(t.Context(), i, x); err != nil {
				t.Fatal(err)
			}
		}
		return dev.Info().InUse
	}
	one, all := used(1), used(live)
	kept := int64((live - 1) * (4*tokens*hidden*4 + 2*4<<20)) // inputs of blocks and of the part, in slabs of 4 MiB
	t.Logf("one micro-batch takes %.1f MB, %d take %.1f", float64(one)/1e6, live, float64(all)/1e6)
	if all-one > kept {
		t.Errorf("%d micro-batches take %d bytes more than one, want at most %d", live, all-one, kept)
	}
	if again := used(live); again != all {
		t.Errorf("a further round takes %d bytes more", again-all)
	}
}
