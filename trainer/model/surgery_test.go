package model_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

func values(t *testing.T, m *model.Model) map[string][]float32 {
	t.Helper()
	v := map[string][]float32{}
	for _, p := range m.Params {
		v[p.Name] = make([]float32, p.Len())
		if err := m.Read(p, v[p.Name]); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func openWith(t *testing.T, dir string, s model.Surgery) *model.Model {
	t.Helper()
	m, err := model.OpenWith(safetensors.Dir(dir), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestPooling holds the pooled weights against a mean written out plainly, and shows that the saved model is the same.
func TestPooling(t *testing.T) {
	for _, shape := range []tiny.Shape{{Type: "llama"}, {Type: "qwen2"}, {Type: "qwen3"}, {Type: "gemma2", Tied: true}, {Type: "phi3"}, {KVHeads: 2}} {
		shape.Std, shape.Scatter = 0.2, true
		dir := t.TempDir()
		if err := tiny.Write(dir, shape, 3); err != nil {
			t.Fatal(err)
		}
		whole := openWith(t, dir, model.Surgery{})
		for heads := 1; heads <= whole.Config.KVHeads; heads *= 2 {
			m := openWith(t, dir, model.Surgery{KVHeads: heads})
			if m.Config.KVHeads != heads || m.Changed() != (heads < whole.Config.KVHeads) {
				t.Fatalf("%s: %d heads, changed %v, want %d", shape.Type, m.Config.KVHeads, m.Changed(), heads)
			}
			got, before := values(t, m), values(t, whole)
			for name, v := range got {
				checkPooled(t, name, v, before[name], whole.Config, heads)
			}
			checkSaved(t, m, dir, got)
		}
	}
}

// checkPooled computes what v has to be from the unpooled values, element by element.
func checkPooled(t *testing.T, name string, v, before []float32, c *model.Config, heads int) {
	t.Helper()
	keep, cols := 0, c.Hidden
	switch {
	case strings.Contains(name, "qkv_proj"):
		keep = c.Heads * c.HeadDim * cols
	case !strings.Contains(name, "k_proj") && !strings.Contains(name, "v_proj"):
		keep = len(before)
	case strings.HasSuffix(name, ".bias"):
		cols = 1
	}
	if !slices.Equal(v[:keep], before[:keep]) {
		t.Fatalf("%s changed", name)
	}
	v, before = v[keep:], before[keep:]
	group, size := c.KVHeads/heads, c.HeadDim*cols
	if len(v)*group != len(before) {
		t.Fatalf("%s has %d elements, of %d before", name, len(v), len(before))
	}
	for i, x := range v {
		head, in := i/size, i%size
		want := 0.0
		for k := head * group; k < (head+1)*group; k++ {
			want += float64(before[k*size+in]) / float64(group)
		}
		if d := float64(x) - want; d > 1e-7 || d < -1e-7 {
			t.Fatalf("%s[%d] is %v, want %v", name, i, x, want)
		}
	}
}

// checkSaved writes m and reads it again as an ordinary model.
func checkSaved(t *testing.T, m *model.Model, from string, want map[string][]float32) {
	t.Helper()
	dir := t.TempDir()
	err := m.Save(dir, safetensors.Dir(from), func(p *autograd.Param) ([]float32, error) { return want[p.Name], nil })
	if err != nil {
		t.Fatal(err)
	}
	again := openWith(t, dir, model.Surgery{})
	if again.Config.KVHeads != m.Config.KVHeads || again.Config.Vocab != m.Config.Vocab || again.Changed() {
		t.Fatalf("%+v", again.Config)
	}
	for name, v := range values(t, again) {
		if !slices.Equal(v, want[name]) {
			t.Fatalf("%s is not what was saved", name)
		}
	}
}

// TestPoolingEqualHeads: where the heads of a group are equal, pooling changes no logit.
func TestPoolingEqualHeads(t *testing.T) {
	dir, doubled := t.TempDir(), t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{KVHeads: 2, Std: 0.2}, 3); err != nil {
		t.Fatal(err)
	}
	if err := tiny.Write(doubled, tiny.Shape{Std: 0.2}, 3); err != nil {
		t.Fatal(err)
	}
	small, big := openWith(t, dir, model.Surgery{}), openWith(t, doubled, model.Surgery{})
	v, c := values(t, small), small.Config
	err := big.Save(doubled, safetensors.Dir(doubled), func(p *autograd.Param) ([]float32, error) {
		if p.Len() == len(v[p.Name]) {
			return v[p.Name], nil
		}
		var out []float32
		for size := c.HeadDim * c.Hidden; len(out) < p.Len(); { // head by head, each twice
			head := v[p.Name][len(out)/2 : len(out)/2+size]
			out = append(append(out, head...), head...)
		}
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seqs := []model.Sequence{{IDs: []int32{5, 99, 180, 7, 42, 17}}}
	var got [3][]float32
	for i, m := range []*model.Model{small, openWith(t, doubled, model.Surgery{}), openWith(t, doubled, model.Surgery{KVHeads: 2})} {
		s, err := stage.New(modeltest.Device(t), m, nil, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = make([]float32, 6*m.Config.Vocab)
		if err := s.Logits(t.Context(), seqs, nil, got[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i, x := range got[0] {
		if d := got[1][i] - x; d > 1e-5 || d < -1e-5 || got[2][i] != x {
			t.Fatalf("logit %d: %v with 2 heads, %v with each twice, %v pooled again", i, x, got[1][i], got[2][i])
		}
	}
}

func TestPoolingRefuses(t *testing.T) {
	for kind, heads := range map[string][]int{"llama": {3, -1, 8}, "gpt2": {2}} {
		dir := t.TempDir()
		if err := tiny.Write(dir, tiny.Shape{Type: kind}, 3); err != nil {
			t.Fatal(err)
		}
		for _, n := range heads {
			m, err := model.OpenWith(safetensors.Dir(dir), model.Surgery{KVHeads: n})
			if err == nil || !strings.Contains(err.Error(), "kv_heads") {
				t.Errorf("%s to %d heads: %v, %v", kind, n, m, err)
			}
		}
	}
	if m := openWith(t, modeltest.Data(t, "reference", "models", "llama_gqa"), model.Surgery{KVHeads: 1}); m.Config.KVHeads != 1 {
		t.Errorf("%s: %+v", filepath.Base("llama_gqa"), m.Config)
	}
}
