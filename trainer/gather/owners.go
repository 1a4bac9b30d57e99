package gather

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/shard/layout"
)

// Store keeps the elements of an index space: weights, gradients or moments of an owner.
type Store interface {
	Read(lo int, dst []float32) error
	Write(lo int, src []float32) error
	Close() error
}

// Memory is a Store in host memory: offload to the processor.
type Memory []float32

// Read implements Store.
func (m Memory) Read(lo int, dst []float32) error {
	copy(dst, m[lo:])
	return nil
}

// Write implements Store.
func (m Memory) Write(lo int, src []float32) error {
	copy(m[lo:], src)
	return nil
}

// Close implements Store.
func (m Memory) Close() error { return nil }

// File is a Store in a file that nobody else sees, which is gone with it: offload to disk. Elements are in this machine's byte
// order.
type File struct{ f *os.File }

// NewFile makes a Store of n zeros in a directory.
func NewFile(dir string, n int) (*File, error) {
	f, err := os.CreateTemp(dir, "offload-*")
	if err != nil {
		return nil, fmt.Errorf("offload: %w", err)
	}
	if err := errors.Join(f.Truncate(4*int64(n)), os.Remove(f.Name())); err != nil {
		return nil, errors.Join(fmt.Errorf("offload: %w", err), f.Close())
	}
	return &File{f}, nil
}

// Read implements Store.
func (s *File) Read(lo int, dst []float32) error {
	if len(dst) == 0 {
		return nil
	}
	_, err := io.ReadFull(io.NewSectionReader(s.f, 4*int64(lo), 4*int64(len(dst))), bytesOf(dst))
	return err
}

// Write implements Store.
func (s *File) Write(lo int, src []float32) error {
	_, err := s.f.WriteAt(bytesOf(src), 4*int64(lo))
	return err
}

// Close implements Store.
func (s *File) Close() error { return s.f.Close() }

func bytesOf(v []float32) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
}

// Owners is a Source whose chunks several owners hold, all of them in this process: what a group of members does over the network,
// or one owner's offload. Owner k's chunks lie one behind the other in its stores.
type Owners struct {
	Layout *layout.Layout

	mu    sync.Mutex // guards the stores
	of    []int      // owner of each chunk
	at    []int      // and its place there
	sizes []int      // elements of each owner
	w, g  []Store    // by owner
	buf   []float32  // (a chunk)
}

// NewOwners gives chunks owners by name, as every group does. open makes a store of n elements for one of them.
func NewOwners(l *layout.Layout, names []string, open func(n int) (Store, error)) (*Owners, error) {
	o := &Owners{Layout: l, sizes: make([]int, len(names)), buf: make([]float32, layout.MaxChunk)}
	for i, ranking := range layout.Owners(l.Chunks, names) {
		k := ranking[0]
		o.of, o.at = append(o.of, k), append(o.at, o.sizes[k])
		o.sizes[k] += l.Chunks[i].Len()
		if n := l.Chunks[i].Len(); n > len(o.buf) {
			o.buf = make([]float32, n)
		}
	}
	for _, n := range o.sizes {
		for _, dst := range []*[]Store{&o.w, &o.g} {
			s, err := open(n)
			if err != nil {
				return nil, errors.Join(err, o.Close())
			}
			*dst = append(*dst, s)
		}
	}
	return o, nil
}

// Close closes the stores.
func (o *Owners) Close() (err error) {
	for _, s := range append(append([]Store(nil), o.w...), o.g...) {
		err = errors.Join(err, s.Close())
	}
	return err
}

// Held is how many elements an owner has.
func (o *Owners) Held(k int) int { return o.sizes[k] }

// chunks are those of a unit; a unit without weights has none.
func (o *Owners) chunks(unit int) (lo, hi, base int) {
	if unit >= len(o.Layout.Units) {
		return 0, 0, 0
	}
	u := o.Layout.Units[unit]
	return u.FirstChunk, u.EndChunk, u.Lo
}

// Gather implements Source.
func (o *Owners) Gather(ctx context.Context, unit int, dst []float32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	lo, hi, base := o.chunks(unit)
	for c := lo; c < hi; c++ {
		ch := o.Layout.Chunks[c]
		if err := errors.Join(ctx.Err(), o.w[o.of[c]].Read(o.at[c], dst[ch.Lo-base:ch.Hi-base])); err != nil {
			return err
		}
	}
	return nil
}

// Scatter implements Source.
func (o *Owners) Scatter(ctx context.Context, unit int, g []float32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	lo, hi, base := o.chunks(unit)
	for c := lo; c < hi; c++ {
		ch := o.Layout.Chunks[c]
		s, sum := o.g[o.of[c]], o.buf[:ch.Len()]
		if err := errors.Join(ctx.Err(), s.Read(o.at[c], sum)); err != nil {
			return err
		}
		for i, x := range g[ch.Lo-base : ch.Hi-base] {
			sum[i] += x
		}
		if err := s.Write(o.at[c], sum); err != nil {
			return err
		}
	}
	return nil
}

// Each lets step change a chunk's weights by its gradient, chunk by chunk, and clears the gradient for the next contribution.
func (o *Owners) Each(step func(c int, w, g []float32) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := make([]float32, len(o.buf))
	for c, ch := range o.Layout.Chunks {
		w, g := o.buf[:ch.Len()], g[:ch.Len()]
		ws, gs := o.w[o.of[c]], o.g[o.of[c]]
		if err := errors.Join(ws.Read(o.at[c], w), gs.Read(o.at[c], g)); err != nil {
			return err
		}
		if err := step(c, w, g); err != nil {
			return err
		}
		clear(g)
		if err := errors.Join(ws.Write(o.at[c], w), gs.Write(o.at[c], g)); err != nil {
			return err
		}
	}
	return nil
}
