package trainer

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gguf"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// What Export writes; see package job.
const (
	ExportLoRA   = job.FormLoRA
	ExportMerged = job.FormMerged
	ExportFull   = job.FormFull
	ExportGGUF   = job.FormGGUF
)

// Export writes the weights of now to dir in the form as; an empty one stands for what the spec's output.as lists, or the
// plain form of what was trained. The first form that is a directory is dir itself, each further one a folder in it with
// its name; GGUF files lie in dir, named after the job. Weights keep the names and types of the base model's files.
func (t *Trainer) Export(dir, as string) error {
	if t.isPart() && t.whole == nil {
		return errPart
	}
	forms, err := t.spec.Forms(as)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := t.lock(); err != nil {
		return err
	}
	defer t.mu.Unlock()
	files, err := withTemplate(t.files, t.spec.ChatTemplate)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	r := result{name: t.spec.Name, base: t.spec.BaseModel, model: t.model, files: files, adapter: t.adapter, value: t.value}
	return r.writeAll(dir, forms)
}

// value is a weight as it is now. Frozen ones come from the files: the device may have rounded them.
func (t *Trainer) value(p *autograd.Param) ([]float32, error) {
	own := t.adapter != nil && slices.Contains(t.adapter.Weights(), p)
	if slices.Contains(t.model.Params, p) && !own && !slices.Contains(t.trained, p) {
		return reader(t.model.Read)(p)
	}
	if t.whole != nil {
		return slices.Clone(t.whole.w[p.Off:][:p.Len()]), nil
	}
	if v, ok := t.away.value(p); ok {
		return v, nil
	}
	return t.stage.Value(p)
}

// result is what was trained, wherever its values lie.
type result struct {
	name    string
	base    string // what an adapter's config calls its base model
	model   *model.Model
	files   model.Files  // the base model's, with the chat template that was trained on
	adapter peft.Adapter // nil: none
	value   func(*autograd.Param) ([]float32, error)
}

func (r *result) writeAll(dir string, forms []string) error {
	taken := false
	for _, form := range forms {
		kind, typ, _ := strings.Cut(form, ":")
		at := dir
		switch file, is := GGUFName(r.name, form); {
		case is:
			at = filepath.Join(dir, file)
		case taken:
			at = filepath.Join(dir, kind)
		default:
			taken = true
		}
		if err := r.write(at, kind, typ); err != nil {
			return fmt.Errorf("export %s: %w", form, err)
		}
	}
	return nil
}

// GGUFName is what the file of a form is called, as those who share such files write it; false: the form is another.
func GGUFName(name, form string) (string, bool) {
	kind, typ, typed := strings.Cut(form, ":")
	if typed {
		name += "-" + typ
	}
	return name + ".gguf", kind == ExportGGUF
}

// write writes one form to a directory, or to a file if it is one.
func (r *result) write(at, kind, typ string) error {
	switch kind {
	case ExportLoRA:
		return r.writeAdapter(at)
	case ExportGGUF:
		t, err := gguf.ParseType(typ)
		if err != nil {
			return err
		}
		return model.WriteFile(at, func(w io.Writer) error {
			return gguf.Write(w, gguf.Source{Name: r.name, Model: r.model, Files: r.files, Value: r.merged()}, t)
		})
	}
	return r.model.Save(at, r.files, r.merged())
}

func (r *result) writeAdapter(dir string) error {
	values, err := r.values(r.adapter.Weights())
	if err != nil {
		return err
	}
	if err := r.adapter.Save(dir, r.base, func(p *autograd.Param) []float32 { return values[p] }); err != nil {
		return err
	}
	return writeTemplate(dir, r.files)
}

func (r *result) values(params []*autograd.Param) (map[*autograd.Param][]float32, error) {
	v := map[*autograd.Param][]float32{}
	for _, p := range params {
		var err error
		if v[p], err = r.value(p); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// merged gives each weight of the model as it acts now.
func (r *result) merged() func(*autograd.Param) ([]float32, error) {
	m, ok := r.adapter.(peft.Merger)
	if !ok {
		return r.value
	}
	return func(p *autograd.Param) ([]float32, error) {
		w, err := r.value(p)
		if err != nil || len(m.Of(p)) == 0 {
			return w, err
		}
		values, err := r.values(m.Of(p))
		if err != nil {
			return nil, err
		}
		m.Merge(p, w, func(q *autograd.Param) []float32 { return values[q] })
		return w, nil
	}
}

// checkForms refuses, before any work, forms that the model cannot be written in.
func checkForms(spec *job.Spec, m *model.Model, files model.Files) error {
	for _, form := range spec.Output.As {
		if kind, _, _ := strings.Cut(form, ":"); kind == ExportGGUF {
			if err := gguf.Check(m, files); err != nil {
				return fmt.Errorf("output.as: %w; remove %s", err, form)
			}
		}
	}
	return nil
}

// Trained is what a directory of a finished run holds.
type Trained struct {
	Name    string      // of the files to be written
	Base    string      // what the adapter's config calls its base model
	Model   model.Files // a Hugging Face directory
	Adapter model.Files // the PEFT directory over it; nil: none
}

// Export writes a form of it to a directory, or to a file if it is one. Weights are read as they are written.
func (d Trained) Export(at, as string) (err error) {
	m, err := model.Open(d.Model)
	if err != nil {
		return fmt.Errorf("open model: %w", err)
	}
	r := result{name: d.Name, base: d.Base, model: m, files: d.Model, value: reader(m.Read)}
	defer func() { err = errors.Join(err, m.Close()) }()
	spec := job.Spec{Adapter: job.AdapterNone}
	if d.Adapter != nil {
		c, err := peft.ReadConfig(d.Adapter)
		if err == nil {
			r.adapter, err = peft.Open(m, d.Adapter, 0)
		}
		if err != nil {
			return fmt.Errorf("open adapter: %w", err)
		}
		defer r.adapter.Close()
		if r.files, err = withTemplateOf(d.Model, d.Adapter); err != nil {
			return fmt.Errorf("open adapter: %w", err)
		}
		spec.Adapter, r.value = c.Job().Kind, r.stored()
	}
	forms, err := spec.Forms(as)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	kind, typ, _ := strings.Cut(forms[0], ":")
	return r.write(at, kind, typ)
}

// stored reads the adapter's weights, those of the model that were trained with it among them, from its own files.
func (r *result) stored() func(*autograd.Param) ([]float32, error) {
	its := map[*autograd.Param]bool{}
	for _, p := range r.adapter.Weights() {
		its[p] = true
	}
	return func(p *autograd.Param) ([]float32, error) {
		if its[p] {
			return reader(r.adapter.Read)(p)
		}
		return reader(r.model.Read)(p)
	}
}

func reader(read func(*autograd.Param, []float32) error) func(*autograd.Param) ([]float32, error) {
	return func(p *autograd.Param) ([]float32, error) {
		v := make([]float32, p.Len())
		return v, read(p, v)
	}
}
