package trainer

import (
	"context"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/gather"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// offloads reports whether the frozen weights come to the device as they are used: from the model's files unless the
// spec says cpu.
func (t *Trainer) offloads() bool {
	return t.offloaded() || t.zero == 3
}

// offloaded reports whether the spec says where what the device does not use lies.
func (t *Trainer) offloaded() bool {
	o := t.spec.Parallel.Offload
	return o != "" && o != job.None
}

// loadOffloaded puts the adapter alone on the device. Weights of the model are read from its files for each pass (disk),
// or once into host memory (cpu).
func (t *Trainer) loadOffloaded(dev kernels.Device, a stage.Adapter) (err error) {
	var src gather.Source = gather.NewFiles(t.model.Params, t.model.ReadPieces)
	if t.spec.Parallel.Offload == job.OffloadCPU {
		if src, err = gather.NewKept(context.Background(), t.model.Params, src); err != nil {
			return err
		}
	}
	t.stage, err = stage.NewGathered(computed(t.spec), dev, t.model, a, t.trained, t.elems, src)
	return err
}

// readRounded reads a weight with the values that it has on a device that holds it in the type of products.
func (t *Trainer) readRounded(p *autograd.Param, dst []float32) error {
	err := t.model.Read(p, dst)
	t.rounded(p, dst)
	return err
}

// rounded gives a matrix the values that it has on a device which holds it in the type of products.
func (t *Trainer) rounded(p *autograd.Param, v []float32) {
	if autograd.Stored(computed(t.spec)) == dtype.BF16 && len(p.Shape) == 2 {
		for i, x := range v {
			v[i] = dtype.FromBF16(dtype.ToBF16(x))
		}
	}
}
