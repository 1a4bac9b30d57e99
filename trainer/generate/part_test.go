package generate_test

import (
	"context"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/generate"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// lossy is a line whose parts are replaced before some passes.
type lossy struct {
	generate.Line
	passes int
	renew  map[int]int // pass → part
	fresh  func(i int) *generate.Part
}

func (l *lossy) Logits(ctx context.Context, q model.Sequence, room int, dst []float32) error {
	if i, ok := l.renew[l.passes]; ok {
		delete(l.renew, l.passes)
		l.Line[i].Close()
		l.Line[i] = l.fresh(i)
	}
	l.passes++
	return l.Line.Logits(ctx, q, room, dst)
}

// TestParts: a model in parts, each with its own cache, says what the whole says, also when parts are replaced by others that
// know nothing of the text; with methods that put something before it too.
func TestParts(t *testing.T) {
	prompt := []int32{5, 9, 30, 7}
	o := generate.Options{MaxTokens: 24, IgnoreEOS: true}
	for name, c := range map[string]*peft.Config{
		"base": nil,
		"lora": {R: 2, Alpha: 4}, "prompt": {Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 3}},
		"prefix": {Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 3, Projection: true, Hidden: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tiny.Write(dir, tiny.Shape{Layers: 4, KVHeads: 2, Std: 0.3}, 7); err != nil {
				t.Fatal(err)
			}
			m, err := model.Open(safetensors.Dir(dir))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			var a stage.Adapter
			var over model.Overlay
			if c != nil {
				p, err := peft.New(m, *c, 3)
				if err != nil {
					t.Fatal(err)
				}
				a, over = p, p
			}
			dev := modeltest.Device(t)
			all, err := stage.New(dev, m, a, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			want, err := generate.New(all).All(t.Context(), prompt, o)
			if err != nil || len(want) != o.MaxTokens {
				t.Fatal(want, err)
			}
			for _, n := range []int{1, 2, 3, 5} {
				fresh := func(i int) *generate.Part {
					s, err := stage.NewPart(dtype.F32, dev, m, a, nil, model.Part{Lo: i * m.Row() / n, Hi: (i + 1) * m.Row() / n})
					if err != nil {
						t.Fatal(err)
					}
					return generate.NewPart(s)
				}
				l := &lossy{renew: map[int]int{7: n - 1, 12: 0}, fresh: fresh}
				for i := range n {
					l.Line = append(l.Line, fresh(i))
				}
				got, err := generate.Over(m, over, l).All(t.Context(), prompt, o)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%d parts say %v, %v; want %v", n, got, err, want)
				}
			}
		})
	}
}
