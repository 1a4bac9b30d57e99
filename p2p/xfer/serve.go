package xfer

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	stall       = 15 * time.Second // longest time without a byte in the middle of a transfer
	slowest     = 4 << 10          // bytes per second that a transfer must reach on the whole
	receiptTime = 15 * time.Second // to write a receipt
	readSize    = 256 << 10        // bytes of a read under one deadline

	lanesOfMemory = 32 // see reserve
)

// Serve reads a lane that a peer opened until it ends.
func (x *Xfer) Serve(s Stream) {
	if !x.adopt(s) {
		s.Reset()
		return
	}
	v := &serving{x: x, stream: s, owed: map[uint32]int{}, out: make(chan header, maxOpen+2), stop: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(v.answer)
	err := v.read()
	close(v.stop)
	if err != nil {
		s.Reset()
	} else {
		s.Close()
	}
	wg.Wait()
	v.end()
	if err != nil && !errors.Is(err, io.EOF) {
		x.cfg.Log.Debug("transfers from a peer ended", "peer", s.Peer(), "err", err)
	}
}

// adopt counts a lane. A peer may have twice the lanes it needs here: those that broke may not have ended yet.
func (x *Xfer) adopt(s Stream) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.served[s.Peer()] >= 2*(1+x.cfg.BulkLanes) {
		return false
	}
	x.streams[s] = true
	x.served[s.Peer()]++
	x.wg.Add(1)
	return true
}

// reserve takes up to want bytes of the memory budget, but at least least; 0: there is not even that. A lane gets a part of
// what is free, so that with the usual budget there is something for about a hundred of them.
func (x *Xfer) reserve(want, least int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := min(want, max(least, x.free/lanesOfMemory), x.free)
	if n < least {
		return 0
	}
	x.free -= n
	return n
}

// serving is one lane at its receiving end: Serve reads, answer writes receipts.
type serving struct {
	x      *Xfer
	stream Stream
	out    chan header // receipts; room for one per open transfer and what else is said
	stop   chan struct{}

	window  int // bytes the sender may have without a receipt
	meta    [MaxMeta]byte
	scratch []byte // for payloads nobody wants

	mu    sync.Mutex     // guards the rest
	owed  map[uint32]int // transfers without a receipt and their sizes
	sum   int            // of those sizes
	whole int            // of those, payloads that a service works on
	busy  bool           // a byte came since the last sign of life, see answer
	over  bool
}

// end gives back what the lane held.
func (v *serving) end() {
	v.x.mu.Lock()
	defer v.x.mu.Unlock()
	v.x.free += v.window
	delete(v.x.streams, v.stream)
	if v.x.served[v.stream.Peer()]--; v.x.served[v.stream.Peer()] == 0 {
		delete(v.x.served, v.stream.Peer())
	}
	v.x.wg.Done()
}

// read takes frames until the sender closes the lane (nil) or something is wrong.
func (v *serving) read() error {
	if err := v.hello(); err != nil {
		return err
	}
	for {
		h, err := v.header(2 * laneIdle)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.typ != frameOpen {
			return fmt.Errorf("frame of type %d between transfers", h.typ)
		}
		if err := v.transfer(h); err != nil {
			return err
		}
	}
}

// hello takes the lane's memory and grants it.
func (v *serving) hello() error {
	h, err := v.header(stall)
	if err != nil {
		return err
	}
	if h.typ != frameHello {
		return fmt.Errorf("lane begins with a frame of type %d", h.typ)
	}
	if h.code == small {
		v.window = v.x.reserve(smallWindow, smallWindow)
	} else if v.window = v.x.reserve(bulkWindow, firstWindow); v.window > firstWindow {
		v.out <- header{typ: frameWindow, size: uint32(v.window)}
	}
	if v.window == 0 {
		return errors.New("the memory for transfers is used up")
	}
	return nil
}

func (v *serving) header(patience time.Duration) (header, error) {
	var b [headerLen]byte
	v.stream.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(v.stream, b[:]); err != nil {
		return header{}, err
	}
	return parseHeader(&b)
}

// transfer takes one transfer: the service's word, then the payload.
func (v *serving) transfer(h header) error {
	size := int(h.size)
	if err := v.owe(h.id, size); err != nil {
		return err
	}
	meta := v.meta[:h.meta]
	if err := v.fill(meta, time.Now().Add(stall)); err != nil {
		return err
	}
	var d Delivery
	code := CodeNoService
	if s := v.x.service(h.code); s != nil {
		d, code = s.Offer(v.stream.Peer(), meta, size)
	}
	if d == nil {
		v.receipt(h.id, code)
		_, err := v.payload(h.id, size, nil)
		return err
	}
	whole, err := v.payload(h.id, size, d.Buffer())
	if err != nil || !whole {
		d.Drop()
		v.receipt(h.id, CodeBroken)
		return err
	}
	v.work(1)
	d.Done(func(c Code) {
		v.work(-1)
		v.receipt(h.id, c)
	})
	return nil
}

// owe counts a transfer against the window.
func (v *serving) owe(id uint32, size int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, twice := v.owed[id]; twice || v.sum+size > v.window || len(v.owed) >= maxOpen {
		return fmt.Errorf("transfer %d of %d bytes does not fit the window: %d bytes in %d transfers are open", id, size, v.sum, len(v.owed))
	}
	v.owed[id] = size
	v.sum += size
	return nil
}

// payload reads the parts of a transfer into dst, or nowhere when dst is nil; whole is false when the sender canceled.
func (v *serving) payload(id uint32, size int, dst []byte) (whole bool, err error) {
	limit := time.Now().Add(stall + time.Duration(size/slowest)*time.Second)
	for at := 0; at < size; {
		h, err := v.header(stall)
		if err != nil {
			return false, err
		}
		if h.typ == frameCancel && h.id == id {
			return false, nil
		}
		if h.typ != frameData || h.id != id || int(h.offset) != at || int(h.size) > size-at {
			return false, fmt.Errorf("frame %+v in transfer %d at %d of %d bytes", h, id, at, size)
		}
		if dst == nil {
			err = v.skip(int(h.size), limit)
		} else {
			err = v.fill(dst[at:at+int(h.size)], limit)
		}
		if err != nil {
			return false, err
		}
		at += int(h.size)
	}
	return true, nil
}

// fill reads exactly len(b) bytes. Each read must bring something before stall has passed, all of them before limit.
func (v *serving) fill(b []byte, limit time.Time) error {
	for len(b) > 0 {
		d := time.Now().Add(stall)
		if limit.Before(d) {
			d = limit
		}
		v.stream.SetReadDeadline(d)
		n, err := v.stream.Read(b[:min(len(b), readSize)])
		b = b[n:]
		v.live()
		if err != nil && len(b) > 0 {
			return err
		}
	}
	return nil
}

// skip reads n bytes that nobody wants.
func (v *serving) skip(n int, limit time.Time) error {
	if v.scratch == nil {
		v.scratch = make([]byte, 32<<10)
	}
	for n > 0 {
		k := min(n, len(v.scratch))
		if err := v.fill(v.scratch[:k], limit); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

func (v *serving) work(by int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.whole += by
}

func (v *serving) live() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy = true
}

// receipt ends a transfer, once. It never blocks: out has room for one per open transfer.
func (v *serving) receipt(id uint32, c Code) {
	v.mu.Lock()
	defer v.mu.Unlock()
	size, ok := v.owed[id]
	if !ok || v.over {
		return
	}
	delete(v.owed, id)
	v.sum -= size
	select {
	case v.out <- header{typ: frameReceipt, id: id, code: uint8(c)}:
	default: // the sender does not read receipts: give the lane up
		v.over = true
		v.stream.Reset()
	}
}

// answer writes receipts, and signs of life while bytes arrive or a service works.
func (v *serving) answer() {
	alive := time.NewTicker(alivePeriod)
	defer alive.Stop()
	b := make([]byte, 0, 64*headerLen)
	for {
		b = b[:0]
		select {
		case h := <-v.out:
			b = h.append(b)
		case <-alive.C:
			if v.lives() {
				b = header{typ: frameAlive}.append(b)
			}
		case <-v.stop:
			return
		}
		for len(v.out) > 0 && len(b) < cap(b) {
			b = (<-v.out).append(b)
		}
		if len(b) == 0 {
			continue
		}
		v.stream.SetWriteDeadline(time.Now().Add(receiptTime))
		if _, err := v.stream.Write(b); err != nil {
			v.stream.Reset() // ends read
			return
		}
	}
}

// lives says whether there is a reason to show a sign of life: bytes came, or a service works on a whole payload.
func (v *serving) lives() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	busy := v.busy || v.whole > 0
	v.busy = false
	return busy
}
