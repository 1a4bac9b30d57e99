package peft

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// prefixOfNames stands before every module path in a PEFT file.
const prefixOfNames = "base_model.model."

// base is what all methods have: handles, where their values come from, and how they stand in a file.
type base struct {
	Config
	Params []*autograd.Param // the adapter's own, in model order

	model *model.Model
	seed  uint64
	saved []*autograd.Param // the model's that are trained whole

	tensors []tensor                                           // of the file, in its order
	fresh   func(p *autograd.Param, dst []float32) error       // what one of Params starts from
	unpack  func(p *autograd.Param, dst []float32) (err error) // from the file; nil: each has a tensor of its name
	stored  *safetensors.Set                                   // where the values come from; nil: fresh
	config  func() fileConfig                                  // what its file says besides
}

// tensor is one of a file.
type tensor struct {
	name  string
	shape []int
	pack  func(value func(*autograd.Param) []float32) []float32
}

func (b *base) common() *base { return b }

// add makes a handle of the adapter's own that has a tensor of its name in the file.
func (b *base) add(name string, unit, rows, cols int, shape ...int) *autograd.Param {
	p := b.hidden(name, unit, rows, cols, shape...)
	b.store(name, p)
	return p
}

// hidden makes a handle that has no tensor of its own in the file.
func (b *base) hidden(name string, unit, rows, cols int, shape ...int) *autograd.Param {
	p := &autograd.Param{Name: name, Unit: unit, Kind: autograd.Adapter, Rows: rows, Cols: cols, Shape: shape, Off: -1}
	b.Params = append(b.Params, p)
	return p
}

// store gives p a tensor in the file.
func (b *base) store(name string, p *autograd.Param) {
	b.tensors = append(b.tensors, tensor{name, p.Shape, func(value func(*autograd.Param) []float32) []float32 { return value(p) }})
}

// Weights are all parameters that the adapter trains, those of the model too.
func (b *base) Weights() []*autograd.Param { return slices.Concat(b.Params, b.saved) }

// Read fills dst with the value that p starts from: the stored one, or a fresh one.
func (b *base) Read(p *autograd.Param, dst []float32) error {
	saved := slices.Contains(b.saved, p)
	switch {
	case b.stored == nil && saved:
		return b.model.Read(p, dst)
	case b.stored == nil:
		return b.fresh(p, dst)
	case saved:
		return b.stored.ReadF32(prefixOfNames+p.Name, dst)
	case b.unpack != nil:
		return b.unpack(p, dst)
	}
	return b.stored.ReadF32(p.Name, dst)
}

// Close closes the files that Open opened.
func (b *base) Close() error {
	if b.stored == nil {
		return nil
	}
	return b.stored.Close()
}

// Linear implements model.Overlay for methods that leave linear layers alone.
func (b *base) Linear(_ *model.Ctx, _ *model.Linear, _, y autograd.Var) autograd.Var { return y }
