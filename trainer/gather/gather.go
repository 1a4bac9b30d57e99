// Package gather runs a model whose weights lie somewhere else: with other members, in host memory or in a file. A unit's
// weights are gathered just before they are used and dropped when others need the room; its gradient goes where the weights
// are as soon as it is complete (ZeRO 3, Rajbhandari et al. 2020, arXiv:1910.02054; FSDP, Zhao et al. 2023, arXiv:2304.11277).
//
// Words. A unit's vector is all of its weights, one behind the other in model order, in float32. Source is where they lie. Weights
// is the door to them that a tape uses.
//
// Memory on the device: the vectors of two units, and the gradient of one. A third vector waits in host memory: that of the unit that
// comes next, which is gathered while the one before it computes. Where two units work at once (a token table that both
// ends share is one of its own) there may be one more of each. In a pass without checkpoints each unit is gathered
// once on the way forward and once on the way back, but for the last two, which are still there.
//
// Concurrency. Weights belongs to the goroutine of its stream; it calls Source from one other goroutine at a time.
package gather

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Source is where weights lie.
type Source interface {
	// Gather fills dst with a unit's vector.
	Gather(ctx context.Context, unit int, dst []float32) error
	// Scatter adds g, laid out as the unit's vector, to the gradient that is kept where the weights are; zero where they
	// do not learn. g is the caller's again on return.
	Scatter(ctx context.Context, unit int, g []float32) error
}

// room is how many units' vectors stay on the device at a time, unless more are in use.
const room = 2

// Weights is an autograd.Weights over a Source.
type Weights struct {
	s      *kernels.Stream
	src    Source
	units  []unit
	learns map[*autograd.Param]bool
	places map[*autograd.Param]int // in their unit's vector

	loaded []*block // those used last come last
	spare  []*kernels.Buffer
	bytes  Bytes

	next  *fetch // under way; nil: none
	order int    // +1 forward, -1 backward
	host  []float32
	ctx   context.Context // of the pass

	failed error // the first error of Scatter
}

// Bytes are what has been moved, and how much of the device is taken.
type Bytes struct {
	Gathered, Scattered int64
	Resident, Peak      int64
}

// unit is the weights that come and go together.
type unit struct {
	params []*autograd.Param
	elems  int
}

// block is a unit on the device.
type block struct {
	unit  int
	used  int // by how many Acquire
	w, g  kernels.Tensor
	blank map[*autograd.Param]bool // gradients that nobody has written
}

// fetch is a unit on its way to host memory.
type fetch struct {
	unit int
	v    []float32
	err  error
	done chan struct{}
}

// New makes the door to params, those of them that learn included. It takes device memory as it is used.
func New(s *kernels.Stream, params []*autograd.Param, learns func(*autograd.Param) bool, src Source) *Weights {
	w := &Weights{s: s, src: src, learns: map[*autograd.Param]bool{}, places: map[*autograd.Param]int{}, order: 1, ctx: context.Background()}
	for _, p := range params {
		for len(w.units) <= p.Unit {
			w.units = append(w.units, unit{})
		}
		u := &w.units[p.Unit]
		w.places[p], w.learns[p] = u.elems, learns(p)
		u.params, u.elems = append(u.params, p), u.elems+p.Len()
	}
	return w
}

// Close gives the device memory back. The door may be used again.
func (w *Weights) Close() {
	w.wait()
	_ = w.s.Sync(context.Background()) // its error sticks to the stream
	for _, b := range w.loaded {
		kernels.Free(w.s.Device(), b.w.Buf, b.g.Buf)
	}
	kernels.Free(w.s.Device(), w.spare...)
	w.loaded, w.spare, w.bytes.Resident = nil, nil, 0
}

// Drop forgets what is on the device: the weights have changed where they lie, or a pass did not come to its end.
func (w *Weights) Drop() {
	w.wait()
	for _, b := range w.loaded {
		w.free(&b.w)
		if !b.g.None() {
			w.free(&b.g)
		}
	}
	w.loaded, w.failed, w.order = nil, nil, 1
}

// Err is the first error of a Scatter since the last call.
func (w *Weights) Err() error {
	err := w.failed
	w.failed = nil
	return err
}

// Moved is what was moved since the last call.
func (w *Weights) Moved() Bytes {
	b := w.bytes
	w.bytes.Gathered, w.bytes.Scattered = 0, 0
	return b
}

// Has reports whether p is one of these weights.
func (w *Weights) Has(p *autograd.Param) bool {
	_, ok := w.places[p]
	return ok
}

// Acquire implements autograd.Weights.
func (w *Weights) Acquire(ctx context.Context, unit int) error {
	if unit >= len(w.units) || w.units[unit].elems == 0 {
		return ctx.Err()
	}
	if w.ctx = ctx; w.failed != nil {
		return w.failed
	}
	b, err := w.load(ctx, unit)
	if err != nil {
		return fmt.Errorf("gather unit %d: %w", unit, err)
	}
	b.used++
	w.ahead(ctx, unit+w.order)
	return nil
}

// load finds a unit on the device or brings it there.
func (w *Weights) load(ctx context.Context, unit int) (*block, error) {
	for i, b := range w.loaded {
		if b.unit == unit {
			w.loaded = append(append(w.loaded[:i:i], w.loaded[i+1:]...), b)
			return b, nil
		}
	}
	v, err := w.fetched(ctx, unit)
	if err != nil {
		return nil, err
	}
	w.evict()
	b := &block{unit: unit}
	if b.w, err = w.take(len(v)); err != nil {
		return nil, err
	}
	w.s.Upload(b.w, v)
	w.loaded = append(w.loaded, b)
	return b, w.s.Err()
}

// evict makes room for one more unit.
func (w *Weights) evict() {
	for i := 0; i < len(w.loaded) && len(w.loaded) >= room; {
		if b := w.loaded[i]; b.used == 0 {
			w.free(&b.w)
			w.loaded = append(w.loaded[:i:i], w.loaded[i+1:]...)
			continue
		}
		i++
	}
}

// fetched is a unit's vector in host memory, valid until the next call of ahead.
func (w *Weights) fetched(ctx context.Context, unit int) ([]float32, error) {
	w.bytes.Gathered += 4 * int64(w.units[unit].elems)
	if f := w.next; f != nil {
		w.wait()
		if f.unit == unit && f.err == nil {
			return f.v, nil
		}
	}
	v := w.vector(unit)
	return v, w.src.Gather(ctx, unit, v)
}

// vector is host memory for a unit.
func (w *Weights) vector(unit int) []float32 {
	if n := w.units[unit].elems; cap(w.host) < n {
		w.host = make([]float32, n)
	}
	return w.host[:w.units[unit].elems]
}

// ahead begins to gather the unit that comes next, unless it is here.
func (w *Weights) ahead(ctx context.Context, unit int) {
	if unit < 0 || unit >= len(w.units) || w.units[unit].elems == 0 || w.next != nil && w.next.unit == unit {
		return
	}
	for _, b := range w.loaded {
		if b.unit == unit {
			return
		}
	}
	w.wait()
	f := &fetch{unit: unit, v: w.vector(unit), done: make(chan struct{})}
	w.next = f
	go func() { // wait waits for it
		defer close(f.done)
		f.err = w.src.Gather(ctx, unit, f.v)
	}()
}

// wait ends the fetch that is under way. What it brought may be used until the next one.
func (w *Weights) wait() {
	if w.next != nil {
		<-w.next.done
		w.next = nil
	}
}

func (w *Weights) find(unit int) *block {
	for _, b := range w.loaded {
		if b.unit == unit {
			return b
		}
	}
	return nil
}

// Value implements autograd.Weights.
func (w *Weights) Value(p *autograd.Param) kernels.Tensor {
	b := w.find(p.Unit)
	if b == nil || b.used == 0 {
		panic("gather: " + p.Name + " is used without its unit")
	}
	return w.window(b.w, p)
}

func (w *Weights) window(t kernels.Tensor, p *autograd.Param) kernels.Tensor {
	at := w.places[p]
	return t.SliceCols(at, at+p.Len()).Reshape(p.Rows, p.Cols)
}

// Learns implements autograd.Learner.
func (w *Weights) Learns(p *autograd.Param) bool { return w.learns[p] }

// Grad implements autograd.Weights. Memory for the unit's gradient is taken with the first.
func (w *Weights) Grad(p *autograd.Param) (kernels.Tensor, bool) {
	if !w.learns[p] {
		return kernels.Tensor{}, false
	}
	b := w.find(p.Unit)
	if b == nil || b.used == 0 {
		panic("gather: the gradient of " + p.Name + " without its unit")
	}
	if b.g.None() {
		var err error
		if b.g, err = w.take(w.units[p.Unit].elems); err != nil {
			return b.w, true // the stream has the error: nothing is written
		}
		b.blank = map[*autograd.Param]bool{}
		for _, q := range w.units[p.Unit].params {
			b.blank[q] = true
		}
	}
	return w.window(b.g, p), true
}

// Start implements autograd.Starter.
func (w *Weights) Start(p *autograd.Param) bool {
	b := w.find(p.Unit)
	if b == nil || !b.blank[p] {
		return false
	}
	delete(b.blank, p)
	return true
}

// Release implements autograd.Weights: with gradsDone the unit's gradient goes where the weights are.
func (w *Weights) Release(unit int, gradsDone bool) {
	b := w.find(unit)
	if b == nil {
		return
	}
	b.used--
	if gradsDone && !b.g.None() && b.used == 0 {
		w.scatter(b)
	}
	if w.order = 1; gradsDone {
		w.order = -1
	}
}

// scatter hands a unit's gradient over. An error is the stream's to keep; Err of the pass finds it.
func (w *Weights) scatter(b *block) {
	for _, p := range w.units[b.unit].params {
		if b.blank[p] {
			w.s.Fill(w.window(b.g, p), 0)
		}
	}
	g := make([]float32, b.g.Cols)
	err := w.s.Download(g, b.g)
	w.free(&b.g)
	b.blank = nil
	if err == nil {
		w.bytes.Scattered += 4 * int64(len(g))
		err = w.src.Scatter(w.ctx, b.unit, g)
	}
	if err != nil && w.failed == nil {
		w.failed = fmt.Errorf("scatter unit %d: %w", b.unit, err)
	}
}

// take is device memory for n elements: what another unit of about the same size left, or new.
func (w *Weights) take(n int) (kernels.Tensor, error) {
	size := dtype.F32.Bytes(n)
	for i, b := range w.spare {
		if b.Size >= size && b.Size <= size+size/8 {
			w.spare = append(w.spare[:i:i], w.spare[i+1:]...)
			return kernels.Tensor{Buf: b, Rows: 1, Cols: n, Ld: n, Type: dtype.F32}, nil
		}
	}
	w.shrink()
	t, err := kernels.Alloc(w.s.Device(), dtype.F32, 1, n)
	if err == nil {
		w.bytes.Resident += int64(t.Buf.Size)
		w.bytes.Peak = max(w.bytes.Peak, w.bytes.Resident)
	}
	return t, err
}

// shrink gives back what is spare, since it does not fit.
func (w *Weights) shrink() {
	if len(w.spare) == 0 {
		return
	}
	_ = w.s.Sync(context.Background()) // commands may still use it; an error sticks to the stream
	for _, b := range w.spare {
		w.bytes.Resident -= int64(b.Size)
	}
	kernels.Free(w.s.Device(), w.spare...)
	w.spare = nil
}

// free makes memory spare. Commands that still use it come before those of whoever takes it next.
func (w *Weights) free(t *kernels.Tensor) {
	w.spare = append(w.spare, t.Buf)
	*t = kernels.Tensor{}
}
