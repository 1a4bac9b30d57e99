package prepare

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/exam"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
)

// Inputs is everything that a spec names, found and checked.
type Inputs struct {
	Model   *Model
	Adapter *Model // where a LoRA starts; nil: from its seed
	Built   data.Built
	Exam    *exam.Exam // what evaluations ask; nil: nothing

	Params   uint64 // elements that are trained
	MemBytes uint64 // what a member needs, an estimate

	perRow uint64 // bytes of MemBytes for each row of a micro-batch
}

// Inputs finds what spec names, completes spec from the adapter it starts with, and materialises its rows into put.
// The cheap checks come before the long work.
func (s *Sources) Inputs(ctx context.Context, spec *job.Spec, put shard.Putter, p Progress) (*Inputs, error) {
	in, err := s.Measured(ctx, spec, true, put, p)
	if err != nil {
		return nil, err
	}
	if in.Built.Stats.Rows == 0 {
		return nil, errors.New("datasets: no rows to train on")
	}
	if err := spec.CheckSteps(uint64(in.Built.Stats.Rows)); err != nil {
		return nil, err
	}
	// A step never holds more rows than the whole job does.
	in.MemBytes += in.perRow * min(uint64(spec.MicroBatchSize), spec.Samples(uint64(in.Built.Stats.Rows)))
	return in, nil
}

// Measured is Inputs of a spec that is not trained, with its rows or without.
func (s *Sources) Measured(ctx context.Context, spec *job.Spec, rows bool, put shard.Putter, p Progress) (*Inputs, error) {
	in := &Inputs{}
	var err error
	if in.Model, err = s.Model(ctx, spec.BaseModel, p); err != nil {
		return nil, err
	}
	if spec.LoraModelDir != "" {
		if in.Adapter, err = s.Adapter(ctx, spec.LoraModelDir); err != nil {
			return nil, err
		}
		if err := adopt(spec, in.Adapter.Files); err != nil {
			return nil, fmt.Errorf("lora_model_dir: %w", err)
		}
	}
	if err := in.measure(spec); err != nil {
		return nil, err
	}
	if in.Exam, err = in.exam(spec); err != nil {
		return nil, err
	}
	if rows {
		in.Built, err = s.Rows(ctx, spec, in.Model, put, p)
	}
	return in, err
}

// adopt takes over what the adapter's config says.
func adopt(spec *job.Spec, files model.Files) error {
	c, err := peft.ReadConfig(files)
	if err != nil {
		return err
	}
	return spec.Adopt(c.Job())
}

// measure counts what is trained and guesses the memory of a member: all weights in f32; of the trained ones gradient,
// two moments and three contributions besides; the activations of a row, which a micro-batch has several of.
func (in *Inputs) measure(spec *job.Spec) error {
	m, err := model.Open(in.Model.Files)
	if err != nil {
		return fmt.Errorf("model %s: %w", in.Model.Name, err)
	}
	defer m.Close()
	var all uint64
	for _, p := range m.Params {
		all += uint64(p.Len())
	}
	var adapter model.Files
	if in.Adapter != nil {
		adapter = in.Adapter.Files
	}
	l, err := trainer.Layout(spec, in.Model.Files, adapter)
	if err != nil {
		return err
	}
	trained := uint64(l.Size)
	c := m.Config
	tokens := spec.SequenceLen
	if tokens == 0 {
		tokens = c.MaxPos
	}
	block := 12*c.Hidden + 4*c.Inner
	perToken := c.Layers*block + 2*c.Vocab // floats kept for the backward pass
	if spec.GradientCheckpointing {
		perToken = c.Layers*c.Hidden + 2*block + 2*c.Vocab
	}
	in.Params = trained
	in.MemBytes = 4 * (all + 6*trained)
	if most := largest(m); streams(spec) && spec.Parallel.Zero == "3" && adapterless(spec) {
		in.MemBytes = 4 * 3 * most // two units and a gradient
		if spec.Parallel.Offload == "" || spec.Parallel.Offload == job.None {
			in.MemBytes += 4 * 4 * trained // moments, old and new, of whoever owns everything
		}
	} else if streams(spec) {
		in.MemBytes = 4 * (2*most + 6*trained)
	}
	in.perRow = 4 * uint64(min(tokens, 4096)*perToken)
	return in.divide(spec, m, all, trained)
}

// divide counts what a member of a pipeline has of it: its stage's frozen weights and activations.
func (in *Inputs) divide(spec *job.Spec, m *model.Model, all, trained uint64) error {
	p := spec.Parallel.Pipeline
	if !spec.Parallel.Staged() {
		return nil
	}
	stages := m.Row() // auto: as many as it takes
	if p != job.Auto {
		if stages, _ = strconv.Atoi(p); stages > m.Row() {
			return fmt.Errorf("parallel.pipeline is %s, and model %s has %d units to make stages of; set it to %d at most", p, in.Model.Name, m.Row(), m.Row())
		}
	}
	in.MemBytes = 4 * (max(all/uint64(stages), largest(m)) + 6*trained)
	in.perRow /= uint64(stages)
	return nil
}

// streams says whether weights of the model come to the device as they are used.
func streams(spec *job.Spec) bool {
	p := spec.Parallel
	return p.Zero == "3" || p.Offload != "" && p.Offload != job.None
}

func adapterless(spec *job.Spec) bool { return spec.Adapter == "" || spec.Adapter == job.AdapterNone }

// largest is the most weights of one unit.
func largest(m *model.Model) (most uint64) {
	units := map[int]uint64{}
	for _, p := range m.Params {
		units[p.Unit] += uint64(p.Len())
		most = max(most, units[p.Unit])
	}
	return most
}
