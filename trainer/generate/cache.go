package generate

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// cache holds the keys and values of one sequence, a row per token, of the layers of a part. It implements model.Cache.
type cache struct {
	rows         int              // tokens there is room for
	first        int              // layer
	keys, values []kernels.Tensor // per layer (rows, KVHeads·HeadDim)
	past, now    int              // tokens held before this pass, and added by it
}

func newCache(dev kernels.Device, c *model.Config, part model.Part, rows int) (*cache, error) {
	lo, hi := max(part.Lo, 1), min(part.Hi, c.Layers+1) // units of layers
	k := &cache{rows: rows, first: lo - 1}
	for range hi - lo {
		for _, dst := range []*[]kernels.Tensor{&k.keys, &k.values} {
			t, err := kernels.Alloc(dev, dtype.F32, rows, c.KVHeads*c.HeadDim)
			if err != nil {
				k.free(dev)
				return nil, err
			}
			*dst = append(*dst, t)
		}
	}
	return k, nil
}

// free gives the memory back.
func (k *cache) free(dev kernels.Device) {
	for _, t := range append(k.keys, k.values...) {
		kernels.Free(dev, t.Buf)
	}
	k.keys, k.values = nil, nil
}

// begin says which rows the next pass writes.
func (k *cache) begin(past, now int) { k.past, k.now = past, now }

// Append implements model.Cache.
func (k *cache) Append(s *kernels.Stream, layer int, keys, values kernels.Tensor) (kernels.Tensor, kernels.Tensor) {
	end := k.past + k.now
	layer -= k.first
	s.Copy(k.keys[layer].SliceRows(k.past, end), keys)
	s.Copy(k.values[layer].SliceRows(k.past, end), values)
	return k.keys[layer].SliceRows(0, end), k.values[layer].SliceRows(0, end)
}
