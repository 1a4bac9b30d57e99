package stage

import (
	"context"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// pieces gives the values of a weight to put, a piece after the other, each with the place of its first element. What has
// been put is the reader's again.
type pieces func(p *autograd.Param, put func(lo int, v []float32) error) error

// inOne is pieces of a reader that knows only whole weights: those of an adapter, which are small or trained in float32.
func inOne(read func(*autograd.Param, []float32) error) pieces {
	var buf []float32
	return func(p *autograd.Param, put func(int, []float32) error) error {
		buf = resize(buf, p.Len())
		if err := read(p, buf); err != nil {
			return err
		}
		return put(0, buf)
	}
}

// load reads weights, and takes memory for those that are not trained.
func (s *Stage) load(params []*autograd.Param, read pieces) error {
	if err := s.freeze(params); err != nil {
		return err
	}
	w := narrower{s: s}
	defer w.free()
	for _, p := range params {
		flat := s.weights.Value(p).Reshape(1, p.Len())
		err := read(p, func(lo int, v []float32) error { return w.write(flat.SliceCols(lo, lo+len(v)), v) })
		if err != nil {
			return err
		}
	}
	return s.Stream.Sync(context.Background())
}

// narrower writes float32 values into tensors of any plain type, by way of device memory that it keeps for the next.
type narrower struct {
	s   *Stage
	via kernels.Tensor // F32 (1, n), as long as the longest so far
}

func (w *narrower) write(dst kernels.Tensor, v []float32) error {
	if dst.Type == dtype.F32 {
		w.s.Stream.Upload(dst, v)
		return w.s.Stream.Err()
	}
	if w.via.Cols < len(v) {
		w.free()
		var err error
		if w.via, err = kernels.Alloc(w.s.Stream.Device(), dtype.F32, 1, len(v)); err != nil {
			return err
		}
	}
	via := w.via.SliceCols(0, len(v))
	w.s.Stream.Upload(via, v)
	w.s.Stream.Copy(dst, via)
	return w.s.Stream.Err()
}

// free gives the memory back when the device is done with it.
func (w *narrower) free() {
	if w.via.None() {
		return
	}
	_ = w.s.Stream.Sync(context.Background()) // its error sticks to the stream
	kernels.Free(w.s.Stream.Device(), w.via.Buf)
	w.via = kernels.Tensor{}
}
