package stage

import (
	"context"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// SumAddends completes the gradient of a shard, once all micro-batches have come back: of some weights each shard has an
// addend alone (heads that several hold, norms of heads, biases that the first adds). All shards call it.
func (s *Stage) SumAddends(ctx context.Context) error {
	for _, p := range s.Train {
		if s.Model.Addends(p) {
			if err := s.sumAddend(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// sumAddend adds in the whole weight's places: shards may hold different parts of it.
func (s *Stage) sumAddend(ctx context.Context, p *autograd.Param) error {
	g, _ := s.weights.Grad(p)
	g = g.Reshape(1, p.Len())
	own, whole := make([]float32, p.Len()), make([]float32, s.Model.Whole(p))
	if err := s.Stream.Download(own, g); err != nil {
		return err
	}
	if !s.Model.Place(p, func(at, to, n int) { copy(whole[to:to+n], own[at:at+n]) }) {
		copy(whole, own)
	}
	if err := s.Group.Sum(ctx, whole); err != nil {
		return err
	}
	if !s.Model.Place(p, func(at, from, n int) { copy(own[at:at+n], whole[from:from+n]) }) {
		copy(own, whole)
	}
	s.Stream.Upload(g, own)
	return s.Stream.Err()
}
