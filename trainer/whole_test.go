package trainer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// parted are trainers of which each computes a part, keeps the state of all and owns chunks.
type parted struct {
	c        trainer.Config
	cuts     []int // of units
	trainers []*trainer.Trainer
	lines    []*swapped
	shared   *shared
}

// swapped is a line that a test replaces between rounds.
type swapped struct{ trainer.Line }

func (p *parted) part(i int) model.Part { return model.Part{Lo: p.cuts[i], Hi: p.cuts[i+1]} }

// evenly cuts units into stages.
func evenly(units, stages int) (cuts []int) {
	for i := range stages + 1 {
		cuts = append(cuts, i*units/stages)
	}
	return cuts
}

func newParted(t *testing.T, c trainer.Config, cuts []int) *parted {
	t.Helper()
	c.Owners, c.Whole = true, true
	p := &parted{c: c, cuts: cuts, shared: &shared{}}
	for i := range len(cuts) - 1 {
		line := &swapped{}
		c.Part, c.Line = p.part(i), line
		p.lines = append(p.lines, line)
		p.trainers = append(p.trainers, newTrainer(t, c))
	}
	p.shared.v = make([]float32, p.trainers[0].Elems())
	return p
}

// steps takes so many steps, and holds the members' states against each other after each.
func (p *parted) steps(t *testing.T, n uint64) (reports []trainer.StepReport) {
	t.Helper()
	pipe := newPipe(len(p.trainers), p.c.Spec.MicroBatchSize)
	g := newGroup(len(p.trainers), p.c.Rows.Rows(), p.c.Spec)
	g.round = p.trainers[0].Step() + 1
	last := p.trainers[0].Step() + n
	hashes := make([][][32]byte, len(p.trainers))
	var wg sync.WaitGroup
	for i, tr := range p.trainers {
		p.lines[i].Line = &pipeEnd{pipe: pipe, stage: i}
		l, _ := tr.Layout()
		col := &owner{member: &member{group: g, id: i, t: t}, layout: l, own: func(c int) bool { return c%len(p.trainers) == i }, shared: p.shared}
		wg.Go(func() {
			err := tr.Run(t.Context(), until{tr.Local(), last}, col, func(r trainer.StepReport) {
				if hashes[i] = append(hashes[i], hash(t, tr)); i == 0 {
					reports = append(reports, r)
				}
			})
			if err != nil {
				t.Errorf("part %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i, h := range hashes {
		if !slices.Equal(h, hashes[0]) || len(h) != int(min(n, last)) && len(h) == 0 {
			t.Fatalf("the member of part %d has other state than that of part 0", i)
		}
	}
	if t.Failed() || len(reports) == 0 || math.IsNaN(reports[0].Loss) {
		t.FailNow()
	}
	return reports
}

// TestReferenceCurvesInWhole is TestReferenceCurves on members that compute a part each, keep the state of all, and step
// the chunks that they own.
func TestReferenceCurvesInWhole(t *testing.T) {
	var meta struct{ Full, Lora curve }
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	train := rows(modeltest.Rows(t, data, "train_ids"))
	base := safetensors.Dir(modeltest.Data(t, "models", "stories260K"))
	if modeltest.Device(t).Info().Kernel == "generic" {
		t.Skip("takes minutes without vector instructions")
	}
	for _, tc := range []struct {
		name    string
		spec    job.Spec
		adapter model.Files
		want    curve
		parts   []int
	}{{"full", fullSpec(), nil, meta.Full, full([]int{5}, 1, 2, 3)}, {"lora", loraSpec(), adapterDir(t), meta.Lora, full([]int{3}, 1, 2, 5)}} {
		for _, parts := range tc.parts {
			t.Run(fmt.Sprintf("%s, %d parts", tc.name, parts), func(t *testing.T) {
				c := trainer.Config{Spec: staged(t, tc.spec), Model: base, Adapter: tc.adapter, Rows: train}
				compare(t, newParted(t, c, evenly(7, parts)).steps(t, 50), tc.want)
			})
		}
	}
}

// full is a few numbers, and where the tests take their time (SHOAL_FULL) more of them.
func full(few []int, more ...int) []int {
	if os.Getenv("SHOAL_FULL") == "" {
		return few
	}
	return append(few, more...)
}

// staged completes a spec of a pipeline.
func staged(t testing.TB, s job.Spec) *job.Spec {
	t.Helper()
	if s.MicroBatchSize == 0 {
		s.MicroBatchSize = 1
	}
	spec := valid(t, s)
	spec.Parallel.Pipeline = job.Auto
	return spec
}

// until ends a source after a step.
type until struct {
	trainer.Source
	last uint64
}

func (u until) Next(ctx context.Context) (trainer.Work, error) {
	w, err := u.Source.Next(ctx)
	if err == nil && w.Round > u.last {
		return w, io.EOF
	}
	return w, err
}

// repart gives every member another part, and drops what is left of the old lines.
func (p *parted) repart(t *testing.T, cuts ...int) {
	t.Helper()
	p.cuts = cuts
	for i, tr := range p.trainers {
		if err := tr.Repart(t.Context(), p.part(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// far is how much losses may differ: by the order in which shares of a gradient are added, where several parts have one.
const far = 1e-5

// TestWhole: parts of all kinds of jobs have the losses of one process, members agree to the bit, may be given other parts
// between two rounds, and any of them measures and exports as one process does.
func TestWhole(t *testing.T) {
	plain := tiny.Shape{KVHeads: 2, Layers: 4}
	tied := tiny.Shape{KVHeads: 2, Layers: 4, Tied: true}
	for name, tc := range map[string]struct {
		shape tiny.Shape
		spec  job.Spec
	}{
		"full":               {plain, job.Spec{}},
		"full, tied":         {tied, job.Spec{GradientCheckpointing: true}},
		"full, tied, gpt2":   {tiny.Shape{Type: "gpt2", Layers: 4, Tied: true}, job.Spec{}},
		"full, bf16":         {plain, job.Spec{DType: job.BF16}},
		"full, fp16":         {plain, job.Spec{DType: job.FP16}},
		"full, bf16 on wire": {plain, job.Spec{Wire: job.Wire{Gradients: job.BF16}}},
		"lora, dropout":      {tied, job.Spec{Adapter: job.AdapterLora, LoraTargetLinear: true, LoraDropout: 0.1, NEFTuneAlpha: 5}},
		"lora, modules":      {plain, job.Spec{Adapter: job.AdapterLora, LoraModulesToSave: []string{"lm_head"}}},
		"lora, bf16":         {tied, job.Spec{Adapter: job.AdapterLora, DType: job.BF16, GradientCheckpointing: true}},
		"lora, adamw8bit":    {plain, job.Spec{Adapter: job.AdapterLora, Optimizer: job.Optimizer{Name: job.AdamW8}}},
		"dora":               {plain, job.Spec{Adapter: job.AdapterDora}},
		"ia3":                {plain, job.Spec{Adapter: job.AdapterIA3}},
		"houlsby":            {plain, job.Spec{Adapter: job.AdapterBottleneck, Bottleneck: job.Bottleneck{Sites: []string{"attn", "mlp"}}}},
		"prefix":             {plain, job.Spec{Adapter: job.AdapterPrefix, Prefix: job.Prefix{Tokens: 3, Projection: true}}},
		"prompt":             {plain, job.Spec{Adapter: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 3}}},
		"unfrozen":           {plain, job.Spec{UnfrozenParameters: []string{"lm_head"}}},
	} {
		t.Run(name, func(t *testing.T) {
			files := base(t, tc.shape)
			tc.spec.MaxSteps = 6
			sp := staged(t, tinySpec(tc.spec))
			c := trainer.Config{Spec: sp, Model: files, Rows: joined{lesson(12)}}
			one := newTrainer(t, c)
			want := train(t, one, 6)
			p := newParted(t, c, []int{0, 2, 4, 6})
			got := p.steps(t, 3)
			p.repart(t, 0, 1, 5, 6)
			got = append(got, p.steps(t, 3)...)
			most := 0.0
			for i, r := range got {
				d := math.Abs(r.Loss - want[i].Loss)
				if most = max(most, d); d > far || r.Tokens != want[i].Tokens || r.Skipped {
					t.Errorf("step %d: %+v, one process %+v", i+1, r, want[i])
				}
			}
			t.Logf("losses within %.2g", most)
			measuredAlike(t, one, p.trainers[1])
			exportedAlike(t, p.trainers)
		})
	}
}

// joined are rows of which two sequences each are packed.
type joined struct{ rows }

func (j joined) Cuts(i int) []int { return []int{len(j.rows[i]) / 2} }

// measuredAlike: a part's member measures what one process does, also while training goes on.
func measuredAlike(t *testing.T, one, part *trainer.Trainer) {
	t.Helper()
	held := joined{lesson(5)}
	want, err := one.Eval(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	finish, err := part.StartEval(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	s, err := part.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	next := s
	next.W = make([]float32, len(s.W))
	if err := part.Restore(next); err != nil { // weights change meanwhile
		t.Fatal(err)
	}
	got, err := finish(t.Context())
	if err := part.Restore(s); err != nil {
		t.Fatal(err)
	}
	t.Logf("measured within %.2g", math.Abs(got.Loss-want.Loss))
	if err != nil || math.Abs(got.Loss-want.Loss) > far || got.Tokens != want.Tokens || got.Step != want.Step {
		t.Errorf("a part's member measures %+v, %v; one process %+v", got, err, want)
	}
}

// exportedAlike: all members write the same files.
func exportedAlike(t *testing.T, trainers []*trainer.Trainer) {
	t.Helper()
	var first map[string][]byte
	for i, tr := range trainers {
		dir := t.TempDir()
		if err := tr.Export(dir, ""); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files[path], err = os.ReadFile(filepath.Join(dir, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = files
		}
		if !maps.EqualFunc(first, files, bytes.Equal) || len(files) == 0 {
			t.Errorf("member %d exports other files", i)
		}
	}
}
