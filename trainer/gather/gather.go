// Package gather runs a model whose weights lie somewhere else: with other members, in host memory or in a file. A unit's
// weights are gathered just before they are used and dropped when others need the room; its gradient goes where the weights
// are as soon as it is complete (ZeRO 3, Rajbhandari et al. 2020, arXiv:1910.02054; FSDP, Zhao et al. 2023, arXiv:2304.11277).
//
// Words. A unit's vector is all of its weights, one behind the other in model order, in float32. Source is where they lie. Weights
// is the door to them that a tape uses. On the device matrices have the type of products.
//
// Memory on the device: two units, the one that computes and the one that comes next, which is gathered meanwhile, and the
// gradient of one. Where the host cannot address the device's memory, the unit that comes next waits in host memory instead, as a vector. Where
// two units work at once (a token table that both ends share is one of its own) there may be one more of each. In a
// pass without checkpoints each unit is gathered once on the way forward and once on the way back, but for the last
// two, which are still there.
//
// Concurrency. Weights belongs to the goroutine of its stream; it calls Source from one other goroutine at a time.
package gather

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

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

// Pieces is a Source that gives a unit in pieces too, so that nobody needs room for all of it in float32.
type Pieces interface {
	// GatherPieces puts a unit's vector; each piece has the place of its first element, and is the Source's again when put
	// returns.
	GatherPieces(ctx context.Context, unit int, put func(lo int, v []float32)) error
}

// room is how many units' vectors stay on the device at a time, unless more are in use.
const room = 2

// Weights is an autograd.Weights over a Source.
type Weights struct {
	s      *kernels.Stream
	src    Source
	stored dtype.Type // of matrices on the device
	units  []unit
	learns map[*autograd.Param]bool
	places map[*autograd.Param]place

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
	elems  int // of its vector
	bytes  int // on the device
}

// place is where a weight lies in its unit.
type place struct {
	at  int // in the vector and in the gradient
	off int // in elements of its type, in the unit's memory on the device
	typ dtype.Type
}

// block is a unit on the device.
type block struct {
	unit  int
	used  int // by how many Acquire
	w     *kernels.Buffer
	g     kernels.Tensor
	blank map[*autograd.Param]bool // gradients that nobody has written
}

// fetch is a unit on its way: to its place on the device, or to host memory.
type fetch struct {
	unit int
	b    *block
	v    []float32
	err  error
	done chan struct{}
}

// New makes the door to params, those of them that learn included. Matrices are stored in a type on the device, which is F32 or
// BF16. It takes device memory as it is used.
func New(s *kernels.Stream, stored dtype.Type, params []*autograd.Param, learns func(*autograd.Param) bool, src Source) *Weights {
	w := &Weights{s: s, src: src, stored: stored, learns: map[*autograd.Param]bool{}, places: map[*autograd.Param]place{}, order: 1, ctx: context.Background()}
	for _, p := range params {
		for len(w.units) <= p.Unit {
			w.units = append(w.units, unit{})
		}
		u := &w.units[p.Unit]
		w.places[p], w.learns[p] = place{at: u.elems}, learns(p)
		u.params, u.elems = append(u.params, p), u.elems+p.Len()
	}
	for i := range w.units {
		w.layOut(&w.units[i])
	}
	return w
}

// layOut gives a unit's weights their places on the device, matrices first, each at a multiple of 64 bytes.
func (w *Weights) layOut(u *unit) {
	for _, matrices := range []bool{true, false} {
		for _, p := range u.params {
			if matrices != (len(p.Shape) == 2) {
				continue
			}
			typ := dtype.F32
			if matrices {
				typ = w.stored
			}
			at := w.places[p]
			at.typ, at.off = typ, u.bytes*8/typ.Bits()
			w.places[p] = at
			u.bytes = (u.bytes + typ.Bytes(p.Len()) + 63) &^ 63
		}
	}
}

// Close gives the device memory back. The door may be used again.
func (w *Weights) Close() {
	w.wait()
	_ = w.s.Sync(context.Background()) // its error sticks to the stream
	for _, b := range w.loaded {
		kernels.Free(w.s.Device(), b.w, b.g.Buf)
	}
	kernels.Free(w.s.Device(), w.spare...)
	w.loaded, w.spare, w.bytes.Resident = nil, nil, 0
}

// Drop forgets what is on the device: the weights have changed where they lie, or a pass did not come to its end.
func (w *Weights) Drop() {
	w.wait()
	for _, b := range w.loaded {
		w.free(b.w)
		w.freeGrad(b)
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
	b, err := w.fetched(ctx, unit)
	if err != nil {
		return nil, err
	}
	w.loaded = append(w.loaded, b)
	return b, w.s.Err()
}

// evict makes room for one more unit.
func (w *Weights) evict() {
	for i := 0; i < len(w.loaded) && len(w.loaded) >= room; {
		if b := w.loaded[i]; b.used == 0 {
			w.free(b.w)
			w.loaded = append(w.loaded[:i:i], w.loaded[i+1:]...)
			continue
		}
		i++
	}
}

// fetched is a unit on the device: the one that was on its way, or it is brought now.
func (w *Weights) fetched(ctx context.Context, unit int) (*block, error) {
	w.bytes.Gathered += 4 * int64(w.units[unit].elems)
	f := w.next
	if f != nil && f.unit == unit {
		<-f.done
	}
	if f == nil || f.unit != unit || f.err != nil {
		w.wait()
		var err error
		if f, err = w.fetch(unit); err == nil {
			err = w.fill(ctx, f)
		}
		if err != nil {
			return nil, err
		}
	}
	w.next = nil
	return w.arrived(f)
}

// fetch makes room for a unit.
func (w *Weights) fetch(unit int) (f *fetch, err error) {
	f = &fetch{unit: unit, done: make(chan struct{})}
	w.evict()
	b := &block{unit: unit}
	if b.w, err = w.take(w.units[unit].bytes); err != nil {
		return nil, err
	}
	if f.b = b; b.w.Bytes == nil {
		f.v = w.vector(unit)
		return f, nil
	}
	return f, w.s.Sync(w.ctx) // commands that use what was here before are done
}

// fill reads a unit to where it waits.
func (w *Weights) fill(ctx context.Context, f *fetch) error {
	if f.v != nil {
		return w.src.Gather(ctx, f.unit, f.v)
	}
	put := func(lo int, v []float32) { w.write(f, lo, v) }
	if p, ok := w.src.(Pieces); ok {
		return p.GatherPieces(ctx, f.unit, put)
	}
	v := w.vector(f.unit)
	err := w.src.Gather(ctx, f.unit, v)
	put(0, v)
	return err
}

// write puts a piece of a unit's vector into device memory that the host can address.
func (w *Weights) write(f *fetch, lo int, v []float32) {
	for _, p := range w.units[f.unit].params {
		at := w.places[p]
		from, to := max(lo, at.at), min(lo+len(v), at.at+p.Len())
		if from >= to {
			continue
		}
		part, off := v[from-lo:to-lo], at.off+from-at.at
		if at.typ == dtype.F32 {
			copy(view[float32](f.b.w.Bytes)[off:], part)
			continue
		}
		dst := view[uint16](f.b.w.Bytes)[off:][:len(part)]
		for i, x := range part {
			dst[i] = dtype.ToBF16(x)
		}
	}
}

// view is memory as elements of another type.
func view[E any](b []byte) []E {
	var e E
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(e)))
}

// arrived brings a unit that waits in host memory to the device.
func (w *Weights) arrived(f *fetch) (*block, error) {
	if f.v == nil {
		return f.b, nil
	}
	for _, p := range w.units[f.unit].params {
		at := w.places[p]
		part, to := f.v[at.at:][:p.Len()], w.at(f.b, p).Reshape(1, p.Len())
		if at.typ == dtype.F32 {
			w.s.Upload(to, part)
			continue
		}
		via, err := w.take(dtype.F32.Bytes(p.Len()))
		if err != nil {
			return nil, err
		}
		t := kernels.Tensor{Buf: via, Rows: 1, Cols: p.Len(), Ld: p.Len(), Type: dtype.F32}
		w.s.Upload(t, part)
		w.s.Copy(to, t)
		w.free(via)
	}
	return f.b, nil
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
	f, err := w.fetch(unit)
	if err != nil {
		return // who needs the unit finds out; the device's errors stick
	}
	w.next = f
	go func() { // wait waits for it
		defer close(f.done)
		f.err = w.fill(ctx, f)
	}()
}

// wait ends the fetch that is under way; nobody needs it.
func (w *Weights) wait() {
	if w.next != nil {
		<-w.next.done
		w.free(w.next.b.w)
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
	return w.at(b, p)
}

// at is a weight in its unit's memory.
func (w *Weights) at(b *block, p *autograd.Param) kernels.Tensor {
	at := w.places[p]
	return kernels.Tensor{Buf: b.w, Off: at.off, Rows: p.Rows, Cols: p.Cols, Ld: p.Cols, Type: at.typ}
}

// gradOf is the place of a weight's gradient.
func (w *Weights) gradOf(b *block, p *autograd.Param) kernels.Tensor {
	at := w.places[p].at
	return b.g.SliceCols(at, at+p.Len()).Reshape(p.Rows, p.Cols)
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
		n := w.units[p.Unit].elems
		buf, err := w.take(dtype.F32.Bytes(n))
		if err != nil {
			w.failed = errors.Join(w.failed, fmt.Errorf("gradient of unit %d: %w", p.Unit, err))
			return kernels.Tensor{}, false
		}
		b.g = kernels.Tensor{Buf: buf, Rows: 1, Cols: n, Ld: n, Type: dtype.F32}
		b.blank = map[*autograd.Param]bool{}
		for _, q := range w.units[p.Unit].params {
			b.blank[q] = true
		}
	}
	return w.gradOf(b, p), true
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
			w.s.Fill(w.gradOf(b, p), 0)
		}
	}
	g, err := w.gradient(b)
	if err == nil {
		w.bytes.Scattered += 4 * int64(len(g))
		err = w.src.Scatter(w.ctx, b.unit, g)
	}
	w.freeGrad(b)
	if err != nil && w.failed == nil {
		w.failed = fmt.Errorf("scatter unit %d: %w", b.unit, err)
	}
}

// gradient is a unit's gradient where the host can read it.
func (w *Weights) gradient(b *block) ([]float32, error) {
	if b.g.Buf.Bytes != nil {
		return view[float32](b.g.Buf.Bytes)[:b.g.Cols], w.s.Sync(w.ctx)
	}
	g := make([]float32, b.g.Cols)
	return g, w.s.Download(g, b.g)
}

func (w *Weights) freeGrad(b *block) {
	if !b.g.None() {
		w.free(b.g.Buf)
	}
	b.g, b.blank = kernels.Tensor{}, nil
}

// take is device memory of so many bytes: what another unit of about the same size left, or new.
func (w *Weights) take(size int) (*kernels.Buffer, error) {
	for i, b := range w.spare {
		if b.Size >= size && b.Size <= size+size/8 {
			w.spare = append(w.spare[:i:i], w.spare[i+1:]...)
			return b, nil
		}
	}
	w.shrink()
	b, err := w.s.Device().Alloc(size)
	if err == nil {
		w.bytes.Resident += int64(b.Size)
		w.bytes.Peak = max(w.bytes.Peak, w.bytes.Resident)
	}
	return b, err
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
func (w *Weights) free(b *kernels.Buffer) { w.spare = append(w.spare, b) }
