package trainer

import (
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// What Export writes.
const (
	ExportLoRA   = "lora"   // a PEFT directory, of whatever adapter
	ExportMerged = "merged" // a Hugging Face directory, the adapter added to the weights
	ExportFull   = "full"   // a Hugging Face directory of a model that was trained itself
)

// Export writes the weights of now to dir as kind; an empty kind is the plain form of what was trained. Weights keep the
// names and types of the base model's files.
func (t *Trainer) Export(dir, kind string) error {
	if kind == "" {
		kind = ExportFull
		if t.adapter != nil {
			kind = ExportLoRA
		}
	}
	switch {
	case kind != ExportLoRA && kind != ExportMerged && kind != ExportFull:
		return fmt.Errorf("export %.20q: there are %s, %s and %s", kind, ExportLoRA, ExportMerged, ExportFull)
	case kind == ExportFull && t.adapter != nil:
		return errors.New("export full: this job trained an adapter; export it as lora or merged")
	case kind != ExportFull && t.adapter == nil:
		return fmt.Errorf("export %s: this job trained no adapter; export it as full", kind)
	case kind == ExportMerged && !t.mergeable():
		return errors.New("export merged: this kind of adapter has no merged form; export it as lora, which is its PEFT directory")
	}
	if err := t.lock(); err != nil {
		return err
	}
	defer t.mu.Unlock()
	if kind == ExportLoRA {
		return t.exportLoRA(dir)
	}
	return t.model.Save(dir, t.files, t.merged())
}

func (t *Trainer) mergeable() bool {
	_, ok := t.adapter.(peft.Merger)
	return ok
}

func (t *Trainer) exportLoRA(dir string) error {
	values, err := t.values(t.adapter.Weights())
	if err != nil {
		return err
	}
	return t.adapter.Save(dir, t.spec.BaseModel, func(p *autograd.Param) []float32 { return values[p] })
}

func (t *Trainer) values(params []*autograd.Param) (map[*autograd.Param][]float32, error) {
	v := map[*autograd.Param][]float32{}
	for _, p := range params {
		var err error
		if v[p], err = t.stage.Value(p); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// merged gives each weight of the model as it acts now.
func (t *Trainer) merged() func(*autograd.Param) ([]float32, error) {
	m, ok := t.adapter.(peft.Merger)
	if !ok {
		return t.stage.Value
	}
	return func(p *autograd.Param) ([]float32, error) {
		w, err := t.stage.Value(p)
		if err != nil || len(m.Of(p)) == 0 {
			return w, err
		}
		values, err := t.values(m.Of(p))
		if err != nil {
			return nil, err
		}
		m.Merge(p, w, func(q *autograd.Param) []float32 { return values[q] })
		return w, nil
	}
}
