package generate_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/generate"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

func open(t *testing.T, elem ...string) *generate.Generator {
	t.Helper()
	g, err := generate.Open(modeltest.Device(t), safetensors.Dir(modeltest.Data(t, elem...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestReferenceGreedy(t *testing.T) {
	var meta struct {
		Generation []struct {
			Prompt []int32 `json:"prompt_ids"`
			New    []int32 `json:"generated_ids"`
		}
	}
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	for _, dir := range []string{"stories260K", "stories260K-bf16-sharded"} {
		g := open(t, "models", dir)
		for _, want := range meta.Generation {
			got, err := g.All(context.Background(), want.Prompt, generate.Options{MaxTokens: len(want.New)})
			if err != nil {
				t.Fatal(err)
			}
			same := 0
			for same < len(got) && same < len(want.New) && got[same] == want.New[same] {
				same++
			}
			if dir == "stories260K" && same < len(want.New) {
				t.Errorf("%v goes on with %v, want %v", want.Prompt, got, want.New)
			}
			t.Logf("%s: the first %d of %d tokens agree", dir, same, len(want.New))
		}
	}
}

// TestMicroGreedy covers what the story model lacks: sliding windows, learned positions, biases, scaled rotation.
func TestMicroGreedy(t *testing.T) {
	for _, name := range []string{"llama_gqa", "llama_gqa_tied", "llama_mha", "llama_mqa_hd", "llama3_rope", "mistral_swa", "qwen2", "gpt2"} {
		checkGreedy(t, modeltest.Data(t, "reference", "models", name))
	}
}

// TestOracleGreedy covers the families that the shared data lacks.
func TestOracleGreedy(t *testing.T) {
	dirs, err := filepath.Glob("../model/testdata/oracle/*/meta.json")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no models: %v", err)
	}
	for _, meta := range dirs {
		checkGreedy(t, filepath.Dir(meta))
	}
}

func checkGreedy(t *testing.T, dir string) {
	t.Helper()
	var meta struct {
		Prompt []int32 `json:"greedy_prompt"`
		New    []int32 `json:"greedy_new"`
	}
	modeltest.JSON(t, filepath.Join(dir, "meta.json"), &meta)
	g, err := generate.Open(modeltest.Device(t), safetensors.Dir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := g.All(context.Background(), meta.Prompt, generate.Options{MaxTokens: len(meta.New), IgnoreEOS: true})
	if err != nil || !slices.Equal(got, meta.New) {
		t.Errorf("%s goes on with %v, %v; want %v", dir, got, err, meta.New)
	}
}

func openTiny(t *testing.T, s tiny.Shape) *generate.Generator {
	t.Helper()
	dir := t.TempDir()
	s.Std = 0.3
	if err := tiny.Write(dir, s, 4); err != nil {
		t.Fatal(err)
	}
	g, err := generate.Open(modeltest.Device(t), safetensors.Dir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestCacheChangesNothing: going on from a cache gives what going over the whole text again gives.
func TestCacheChangesNothing(t *testing.T) {
	for _, s := range []tiny.Shape{{KVHeads: 2}, {Type: "mistral", Window: 4}, {Type: "gpt2"}, {Type: "qwen2", Tied: true}} {
		g := openTiny(t, s)
		text := []int32{5, 80, 12, 33, 7}
		want, err := g.All(context.Background(), text, generate.Options{MaxTokens: 12, IgnoreEOS: true})
		if err != nil || len(want) != 12 {
			t.Fatal(want, err)
		}
		for i := range want { // one token at a time, from nothing
			got, err := g.All(context.Background(), text, generate.Options{MaxTokens: 1, IgnoreEOS: true})
			if err != nil || got[0] != want[i] {
				t.Fatalf("%s: token %d is %v, %v with a fresh cache, %d going on", s.Type, i, got, err, want[i])
			}
			text = append(text, got[0])
		}
	}
}

func TestLimits(t *testing.T) {
	g := openTiny(t, tiny.Shape{Context: 10})
	ctx := context.Background()
	if ids, err := g.All(ctx, []int32{3, 4, 5}, generate.Options{IgnoreEOS: true}); err != nil || len(ids) != 7 {
		t.Errorf("%d tokens, %v; the model has room for 7", len(ids), err)
	}
	if ids, err := g.All(ctx, make([]int32, 10), generate.Options{}); err != nil || len(ids) != 0 {
		t.Errorf("%d tokens, %v; the prompt fills the model", len(ids), err)
	}
	for name, prompt := range map[string][]int32{"empty": {}, "too long": make([]int32, 11), "no token": {9999}, "negative": {-1}} {
		if _, err := g.All(ctx, prompt, generate.Options{}); err == nil {
			t.Errorf("%s prompt was taken", name)
		}
	}
	free, err := g.All(ctx, []int32{3, 4, 5}, generate.Options{IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	cut, err := g.All(ctx, []int32{3, 4, 5}, generate.Options{IgnoreEOS: true, Stop: []int{int(free[2])}})
	if err != nil || len(cut) != slices.Index(free, free[2]) {
		t.Errorf("stopped after %v, %v; want to stop at %d of %v", cut, err, free[2], free)
	}
	dead, stop := context.WithCancel(ctx)
	stop()
	if _, err := g.All(dead, []int32{3}, generate.Options{}); err == nil {
		t.Error("a cancelled generation went on")
	}
}

func TestSeeds(t *testing.T) {
	g := openTiny(t, tiny.Shape{})
	run := func(seed uint64) []int32 {
		ids, err := g.All(context.Background(), []int32{3, 4}, generate.Options{MaxTokens: 30, Temperature: 1, Seed: seed, IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if !slices.Equal(run(1), run(1)) {
		t.Error("a seed does not repeat")
	}
	if slices.Equal(run(1), run(2)) {
		t.Error("two seeds give one text")
	}
}

// short is a device that gives memory a number of times.
type short struct {
	kernels.Device
	left int
}

func (d *short) Alloc(n int) (*kernels.Buffer, error) {
	if d.left == 0 {
		return nil, errors.New("no memory left")
	}
	d.left--
	return d.Device.Alloc(n)
}

func (d *short) Free(b *kernels.Buffer) { kernels.Free(d.Device, b) }

// TestMemory: generators come and go, caches grow, memory runs out, and the device has what it had.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{}, 4); err != nil {
		t.Fatal(err)
	}
	dev := &short{Device: modeltest.Device(t), left: 1 << 20}
	for range 5 {
		g, err := generate.Open(dev, safetensors.Dir(dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n < 100; n *= 3 { // each needs a larger cache
			if _, err := g.All(t.Context(), make([]int32, n), generate.Options{MaxTokens: 2, IgnoreEOS: true}); err != nil {
				t.Fatal(err)
			}
		}
		g.Close()
		g.Close()
		if n := dev.Info().InUse; n != 0 {
			t.Fatalf("%d bytes are in use", n)
		}
		if _, err := g.All(t.Context(), []int32{3}, generate.Options{}); !errors.Is(err, generate.ErrClosed) {
			t.Errorf("a closed generator: %v", err)
		}
	}
	for room, went := 0, false; !went; room++ {
		dev.left = room
		g, err := generate.Open(dev, safetensors.Dir(dir), nil)
		if err == nil {
			_, err = g.All(t.Context(), []int32{3}, generate.Options{MaxTokens: 2, IgnoreEOS: true})
			went = err == nil
			g.Close()
		}
		if n := dev.Info().InUse; n != 0 {
			t.Fatalf("%d bytes are in use after memory ran out at allocation %d", n, room)
		}
	}
}

// halting cancels a pass at its n-th command batch or transfer.
type halting struct {
	kernels.Device
	stop func()
	n    int
}

func (h *halting) Write(dst kernels.Tensor, src []byte) error {
	if h.n--; h.n == 0 {
		h.stop()
	}
	return h.Device.Write(dst, src)
}

func (h *halting) Free(b *kernels.Buffer) { kernels.Free(h.Device, b) }

// TestCancelledThenLonger: what a cancelled pass left to do is done before its cache goes.
func TestCancelledThenLonger(t *testing.T) {
	dir := t.TempDir()
	if err := tiny.Write(dir, tiny.Shape{}, 4); err != nil {
		t.Fatal(err)
	}
	dev := &halting{Device: modeltest.Device(t)}
	g, err := generate.Open(dev, safetensors.Dir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	long := make([]int32, 40)
	want, err := g.All(t.Context(), long, generate.Options{MaxTokens: 3, IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		g, err := generate.Open(dev, safetensors.Dir(dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		dev.n, dev.stop = n, stop
		_, err = g.All(ctx, []int32{3, 4, 5}, generate.Options{MaxTokens: 1, IgnoreEOS: true})
		stop()
		got, err2 := g.All(t.Context(), long, generate.Options{MaxTokens: 3, IgnoreEOS: true})
		if err2 != nil || !slices.Equal(got, want) {
			t.Fatalf("after a cancellation at transfer %d: %v, %v; want %v", n, got, err2, want)
		}
		g.Close()
		if err == nil {
			return // the pass has fewer transfers
		}
	}
}
