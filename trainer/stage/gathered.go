package stage

import (
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// NewGathered puts a model on dev whose own weights come from a source as they are used, in float32 whatever products are
// computed in, and whose gradients go back there. Train, W and G are the adapter's alone, which stays on the device; trained are all that learn. An adapter
// that trains weights of the model whole is refused.
func NewGathered(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, trained []*autograd.Param, elems int, src gather.Source) (*Stage, error) {
	of := whole(m, elems)
	of.source = src
	var own []*autograd.Param
	for _, p := range trained {
		if !slices.Contains(m.Params, p) {
			own = append(own, p)
			continue
		}
		if a != nil {
			return nil, fmt.Errorf("%s is trained whole beside an adapter, so it has to stay on the device: leave parallel.offload out", p.Name)
		}
		of.gathered = append(of.gathered, p)
	}
	if a == nil {
		of.elems = 0
	}
	return begin(compute, dev, m, a, own, of, m.Params)
}

// NewStill is NewGathered where nothing learns, for measuring: read gives the values of the adapter's own weights.
func NewStill(compute dtype.Type, dev kernels.Device, m *model.Model, a Adapter, read func(p *autograd.Param, dst []float32) error, src gather.Source) (*Stage, error) {
	of := whole(m, 0)
	of.source, of.values = src, read
	return begin(compute, dev, m, a, nil, of, m.Params)
}

// Gathered is the door to weights that come and go; nil: all stay.
func (s *Stage) Gathered() *gather.Weights { return s.base }
