package gather

import (
	"context"
	"fmt"
	"sync"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Files is a Source of frozen weights that are read again each time: from the files of the model itself, so that they take
// no memory and no room elsewhere.
type Files struct {
	mu    sync.Mutex // one reads at a time
	units [][]*autograd.Param
	read  Reader
}

// Reader gives the values of a weight to put, a piece after the other, each with the place of its first element.
type Reader func(p *autograd.Param, put func(lo int, v []float32) error) error

// InOne is a Reader of weights that are known as a whole alone.
func InOne(read func(p *autograd.Param, dst []float32) error) Reader {
	return func(p *autograd.Param, put func(lo int, v []float32) error) error {
		v := make([]float32, p.Len())
		if err := read(p, v); err != nil {
			return err
		}
		return put(0, v)
	}
}

// NewFiles is a Source of params by what reads one of them.
func NewFiles(params []*autograd.Param, read Reader) *Files {
	f := &Files{read: read}
	for _, p := range params {
		for len(f.units) <= p.Unit {
			f.units = append(f.units, nil)
		}
		f.units[p.Unit] = append(f.units[p.Unit], p)
	}
	return f
}

// Gather implements Source.
func (f *Files) Gather(ctx context.Context, unit int, dst []float32) error {
	return f.GatherPieces(ctx, unit, func(lo int, v []float32) { copy(dst[lo:], v) })
}

// GatherPieces implements Pieces.
func (f *Files) GatherPieces(ctx context.Context, unit int, put func(lo int, v []float32)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := 0
	for _, p := range f.units[unit] {
		err := f.read(p, func(lo int, v []float32) error {
			put(at+lo, v)
			return ctx.Err()
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", p.Name, err)
		}
		at += p.Len()
	}
	return nil
}

// Scatter implements Source: nothing here learns.
func (f *Files) Scatter(context.Context, int, []float32) error {
	panic("gather: a gradient of frozen weights")
}

// Kept is a Source of frozen weights that lie in host memory.
type Kept struct{ units [][]float32 }

// NewKept reads all of another source's units.
func NewKept(ctx context.Context, params []*autograd.Param, from Source) (*Kept, error) {
	k := &Kept{}
	for _, p := range params {
		for len(k.units) <= p.Unit {
			k.units = append(k.units, nil)
		}
		k.units[p.Unit] = append(k.units[p.Unit], make([]float32, p.Len())...)
	}
	for u, v := range k.units {
		if len(v) == 0 {
			continue
		}
		if err := from.Gather(ctx, u, v); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Gather implements Source.
func (k *Kept) Gather(ctx context.Context, unit int, dst []float32) error {
	copy(dst, k.units[unit])
	return ctx.Err()
}

// Scatter implements Source: nothing here learns.
func (k *Kept) Scatter(context.Context, int, []float32) error {
	panic("gather: a gradient of frozen weights")
}
