package trainer_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// fenced is a model directory of whose weights some bytes are there alone.
type fenced struct {
	model.Files
	has []trainer.Extent
}

type fencedFile struct {
	io.ReaderAt
	path string
	in   *fenced
}

func (f fencedFile) Close() error { return f.ReaderAt.(io.Closer).Close() }

func (f *fenced) Open(path string) (io.ReaderAt, int64, error) {
	r, size, err := f.Files.Open(path)
	if err != nil || !strings.HasSuffix(path, ".safetensors") {
		return r, size, err
	}
	return fencedFile{r, path, f}, size, nil
}

func (f fencedFile) ReadAt(b []byte, off int64) (int, error) {
	if !slices.ContainsFunc(f.in.has, func(e trainer.Extent) bool { return e.Path == f.path && e.Lo <= off && off+int64(len(b)) <= e.Hi }) {
		return 0, fmt.Errorf("bytes %d to %d of %s are not here", off, off+int64(len(b)), f.path)
	}
	return f.ReaderAt.ReadAt(b, off)
}

// TestNeeds: a member reads of the model what Needs lists, and none of it could be left out; it is less than all where
// other parts are frozen.
func TestNeeds(t *testing.T) {
	for name, tc := range map[string]struct {
		shape tiny.Shape
		spec  job.Spec
	}{
		"lora":   {tiny.Shape{KVHeads: 2}, job.Spec{Adapter: job.AdapterLora}},
		"tied":   {tiny.Shape{KVHeads: 2, Tied: true}, job.Spec{Adapter: job.AdapterLora, DType: job.BF16}},
		"dora":   {tiny.Shape{KVHeads: 2}, job.Spec{Adapter: job.AdapterDora}},
		"prompt": {tiny.Shape{KVHeads: 2}, job.Spec{Adapter: job.AdapterPrompt, Prompt: job.Prompt{Tokens: 3}}},
		"saved":  {tiny.Shape{KVHeads: 2}, job.Spec{Adapter: job.AdapterLora, LoraModulesToSave: []string{"lm_head"}}},
		"full":   {tiny.Shape{KVHeads: 2}, job.Spec{}},
	} {
		t.Run(name, func(t *testing.T) {
			files := base(t, tc.shape)
			tc.spec.MaxSteps = 1
			c := trainer.Config{Spec: staged(t, tinySpec(tc.spec)), Rows: lesson(6), Device: modeltest.Device(t), Owners: true, Whole: true, Line: &swapped{}}
			staging, err := trainer.Stages(c.Spec, files, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Part = model.Part{Lo: 1, Hi: 2}
			needs := func(p model.Part, fresh bool) []trainer.Extent {
				e, err := trainer.Needs(c.Spec, files, nil, p, fresh)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			all := needs(c.Part, true)
			for i := range all {
				c.Model = &fenced{files, slices.Delete(slices.Clone(all), i, i+1)}
				if tr, err := trainer.New(c); err == nil {
					closed(t, tr)
					t.Errorf("%+v is listed and not read", all[i])
				}
			}
			fence := &fenced{files, all}
			c.Model = fence
			tr, err := trainer.New(c)
			if err != nil {
				t.Fatal(err)
			}
			defer closed(t, tr)
			last := model.Part{Lo: staging.Units - 1, Hi: staging.Units}
			if err := tr.Repart(t.Context(), last); (err != nil) != (tc.spec.Adapter != "") || err != nil && tr.Part() != (model.Part{}) {
				t.Errorf("the last part, of which nothing was listed: %v", err)
			}
			fence.has = append(fence.has, needs(last, false)...)
			if err := tr.Repart(t.Context(), last); err != nil || tr.Part() != last {
				t.Error(err)
			}
			if _, err := tr.Eval(t.Context(), lesson(2)); (err != nil) != (tc.spec.Adapter != "") || err != nil && !strings.Contains(err.Error(), "takes all of the model's files") {
				t.Errorf("measured without the weights of others: %v", err)
			}
		})
	}
}
