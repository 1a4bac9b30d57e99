//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// pieceBytes is what one transfer moves at most: two pieces of each direction are pinned.
const pieceBytes = 4 << 20

// lane is a stream for transfers with two pieces of pinned memory that take turns.
type lane struct {
	stream driver.Stream
	piece  [2][]byte
	moved  [2]driver.Event // the last transfer of the piece
	busy   [2]bool
	turn   int
	ready  driver.Event // of the compute stream: before what is to be moved is there
	all    driver.Event // of this stream: all is moved
}

func (l *lane) make(ctx *driver.Context) (err error) {
	if l.stream, err = ctx.NewStream(); err != nil {
		return err
	}
	for i := range l.piece {
		if l.piece[i], err = ctx.HostAlloc(pieceBytes); err != nil {
			return err
		}
		if l.moved[i], err = ctx.NewEvent(false); err != nil {
			return err
		}
	}
	if l.ready, err = ctx.NewEvent(false); err != nil {
		return err
	}
	l.all, err = ctx.NewEvent(false)
	return err
}

// behind lets the lane wait for what the compute stream has been sent.
func (l *lane) behind(compute driver.Stream) error {
	if err := l.ready.Record(compute); err != nil {
		return err
	}
	return l.stream.Wait(l.ready)
}

// next is a piece whose last transfer is over.
func (l *lane) next() (int, error) {
	i := l.turn
	l.turn = 1 - i
	if !l.busy[i] {
		return i, nil
	}
	l.busy[i] = false
	return i, l.moved[i].Sync()
}

type upload struct{ lane }

type download struct{ lane }

// part is rows of a tensor, or a part of one row: width bytes per row at an address, packed from the at'th byte of the
// host's memory on.
type part struct {
	dev                driver.Ptr
	pitch, width, rows int
	at                 int
}

// parts cuts a tensor into parts that fit a piece.
func parts(t *kernels.Tensor, each func(part) error) error {
	width, pitch := t.Type.Bytes(t.Cols), t.Type.Bytes(t.Ld)
	rows := t.Rows
	if width*rows == 0 {
		return nil
	}
	if t.Packed() {
		width *= rows
		pitch, rows = width, 1
	}
	base := driver.Ptr(t.Buf.Addr) + driver.Ptr(t.Type.Bytes(t.Off))
	if width > pieceBytes {
		for r := range rows {
			for lo := 0; lo < width; lo += pieceBytes {
				n := min(pieceBytes, width-lo)
				if err := each(part{base + driver.Ptr(r*pitch+lo), n, n, 1, r*width + lo}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	step := pieceBytes / width
	for r := 0; r < rows; r += step {
		if err := each(part{base + driver.Ptr(r*pitch), pitch, width, min(step, rows-r), r * width}); err != nil {
			return err
		}
	}
	return nil
}

// Write copies packed rows into a tensor, in the order of what was sent.
func (d *Device) Write(dst kernels.Tensor, src []byte) (err error) {
	if want := dst.Rows * dst.Type.Bytes(dst.Cols); len(src) != want {
		return fmt.Errorf("%d bytes of host memory for %v, which has %d", len(src), dst, want)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	d.send.do(func() { err = d.upload(&dst, src) })
	if err != nil {
		err = d.broken(err)
	}
	return err
}

// upload sends a little on the compute stream itself. More goes beside what the GPU computes, as soon as nothing that was
// sent uses the memory any more, and what is sent later waits for it.
func (d *Device) upload(dst *kernels.Tensor, src []byte) error {
	if len(src) <= smallBytes && dst.Packed() {
		b := dst.Buf
		b.Used = d.uses.open
		return d.small.upload(d.compute, driver.Ptr(b.Addr)+driver.Ptr(dst.Type.Bytes(dst.Off)), src)
	}
	l := &d.up.lane
	if err := d.uses.before(dst.Buf.Used, d.compute, l.stream); err != nil {
		return err
	}
	err := parts(dst, func(p part) error {
		i, err := l.next()
		if err != nil {
			return err
		}
		copy(l.piece[i], src[p.at:p.at+p.width*p.rows])
		if err := l.stream.Upload(p.dev, p.pitch, l.piece[i], p.width, p.rows); err != nil {
			return err
		}
		l.busy[i] = true
		return l.moved[i].Record(l.stream)
	})
	if err != nil {
		return err
	}
	if err := l.all.Record(l.stream); err != nil {
		return err
	}
	return d.compute.Wait(l.all)
}

// Read copies a tensor's rows out, packed. It waits for what was sent before, and keeps nobody from sending more.
func (d *Device) Read(dst []byte, src kernels.Tensor) (err error) {
	if want := src.Rows * src.Type.Bytes(src.Cols); len(dst) != want {
		return fmt.Errorf("%d bytes of host memory for %v, which has %d", len(dst), src, want)
	}
	d.waiting.Lock()
	defer d.waiting.Unlock()
	if err := d.order(); err != nil {
		return err
	}
	d.wait.do(func() { err = d.download(dst, &src) })
	if err != nil {
		return d.broken(err)
	}
	return d.fault.take()
}

// order puts the lane of downloads behind what was sent so far.
func (d *Device) order() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	d.send.do(func() { err = d.down.behind(d.compute) })
	return err
}

// download copies one part out while the GPU moves the next.
func (d *Device) download(dst []byte, src *kernels.Tensor) error {
	l := &d.down.lane
	var last part
	held := -1
	take := func() error {
		if held < 0 {
			return nil
		}
		if err := l.moved[held].Sync(); err != nil {
			return err
		}
		l.busy[held] = false
		copy(dst[last.at:], l.piece[held][:last.width*last.rows])
		held = -1
		return nil
	}
	err := parts(src, func(p part) error {
		i, err := l.next()
		if err != nil {
			return err
		}
		if err := l.stream.Download(l.piece[i], p.dev, p.pitch, p.width, p.rows); err != nil {
			return err
		}
		if err := l.moved[i].Record(l.stream); err != nil {
			return err
		}
		if err := take(); err != nil {
			return err
		}
		last, held, l.busy[i] = p, i, true
		return nil
	})
	if err != nil {
		return err
	}
	if err := take(); err != nil {
		return err
	}
	return l.stream.Sync() // also when there was nothing to move: what was sent before is done
}
