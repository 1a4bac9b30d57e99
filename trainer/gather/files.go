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
	read  func(p *autograd.Param, dst []float32) error
}

// NewFiles is a Source of params by what reads one of them.
func NewFiles(params []*autograd.Param, read func(p *autograd.Param, dst []float32) error) *Files {
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
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.units[unit] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.read(p, dst[:p.Len()]); err != nil {
			return fmt.Errorf("read %s: %w", p.Name, err)
		}
		dst = dst[p.Len():]
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
