package blocks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	maxServed     = 128 // streams served at once
	maxServedPeer = 8   // of them for one peer; each holds at most two blocks in memory
	idleLimit     = time.Minute
	writeSize     = 2 * (128<<10 - 12) // bytes that must leave within pieceTime: two of the muxer's frames, filled
	slowSize      = 32 << 10           // the same on a slow link: of a frame that breaks off the other end has nothing
	recordSize    = 256 << 10          // the same with a connection of its own: a record, which the other end opens where it belongs
	pieceTime     = 30 * time.Second   // so the slowest useful link carries 9 KB/s
)

// serve answers one stream; bulk: it has a connection of its own.
func (x *Exchange) serve(s *p2p.Stream, bulk bool) {
	defer s.Reset()
	if !x.enter(s.Peer()) {
		return
	}
	defer x.exit(s.Peer())
	ctx, cancel := context.WithCancel(context.Background())
	d := &donation{x: x, s: s, bulk: bulk, wake: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer s.Reset() // ends read
		d.answer(ctx)
	})
	err := d.read()
	cancel()
	s.Reset() // ends answer
	wg.Wait()
	x.log.Debug("blocks served", "peer", s.Peer(), "ended", err)
}

func (x *Exchange) enter(peer record.PeerID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.streams >= maxServed || x.serving[peer] >= maxServedPeer {
		return false
	}
	x.streams++
	x.serving[peer]++
	return true
}

func (x *Exchange) exit(peer record.PeerID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.streams--
	if x.serving[peer]--; x.serving[peer] == 0 {
		delete(x.serving, peer)
	}
}

// donation is a stream being served: one goroutine reads requests, one answers them.
type donation struct {
	x    *Exchange
	s    *p2p.Stream
	bulk bool
	wake chan struct{} // one pending signal

	mu    sync.Mutex // guards queue and owed
	queue []queued
	owed  int // requests that are not answered
}

type queued struct {
	request
	cancelled bool
}

// read takes requests until the stream fails or is idle.
func (d *donation) read() error {
	r := bufio.NewReaderSize(d.s, 32<<10)
	for {
		d.s.SetReadDeadline(time.Now().Add(idleLimit))
		if _, err := r.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) && d.working() {
			continue // it waits for us
		} else if err != nil {
			return err
		}
		q, err := readRequest(r)
		if err != nil {
			return err
		}
		if err := d.accept(q); err != nil {
			return err
		}
	}
}

func (d *donation) working() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.owed > 0
}

func (d *donation) accept(q request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.kind == kindCancel {
		for i := range d.queue {
			if d.queue[i].kind == kindGet && d.queue[i].seq == q.seq {
				d.queue[i].cancelled = true
			}
		}
		return nil
	}
	if len(d.queue) >= maxQueued {
		return fmt.Errorf("%w: more than %d unanswered requests", errFrame, maxQueued)
	}
	d.queue = append(d.queue, queued{request: q})
	d.owed++
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

func (d *donation) written() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed--
}

func (d *donation) next() (queued, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return queued{}, false
	}
	q := d.queue[0]
	d.queue = d.queue[1:]
	return q, true
}

// answer writes the answers in order. On a fast link the next block is read while one is written; on a slow one not, as it may
// still be cancelled.
func (d *donation) answer(ctx context.Context) {
	size := slowSize // until the link is known
	var ahead chan answer
	defer func() {
		if ahead != nil {
			(<-ahead).done()
		}
	}()
	for {
		if ahead == nil {
			if ahead = d.prepare(ctx); ahead == nil {
				select {
				case <-ctx.Done():
					return
				case <-d.wake:
					continue
				}
			}
		}
		a := <-ahead
		if ahead = nil; size != slowSize {
			ahead = d.prepare(ctx)
		}
		began := time.Now()
		err := d.write(a.frame, size)
		a.done()
		d.written()
		if size = d.fastSize(); time.Since(began) > saveAfter {
			size = slowSize
		}
		if err != nil {
			return
		}
	}
}

// answer is a frame to be written; done gives its memory back.
type answer struct {
	frame []byte
	done  func()
}

// prepare makes the answer to the next request, which comes through the channel; nil: there is none.
func (d *donation) prepare(ctx context.Context) chan answer {
	q, ok := d.next()
	if !ok {
		return nil
	}
	out := make(chan answer, 1)
	go func() {
		frame, done := d.reply(ctx, q)
		out <- answer{frame, done}
	}()
	return out
}

func (d *donation) fastSize() int {
	if d.bulk {
		return recordSize
	}
	return writeSize
}

// write writes a frame in pieces of some size. Where each piece is a record, the header is one of its own.
func (d *donation) write(frame []byte, size int) error {
	if !d.bulk {
		return writeAll(d.s, frame, size)
	}
	n := min(len(frame), headSize+size)
	d.s.SetWriteDeadline(time.Now().Add(pieceTime))
	_, err := d.s.WriteLent(frame[:headSize], func(use func([]byte)) bool {
		use(frame[headSize:n])
		return true
	})
	if err != nil {
		return err
	}
	return writeAll(d.s, frame[n:], size)
}

// reply makes the answer; done is called when it was sent.
func (d *donation) reply(ctx context.Context, q queued) (frame []byte, done func()) {
	done = func() {}
	if q.kind == kindHave {
		body := d.which(ctx, q.cids)
		return append(header{kind: kindHas, seq: q.seq, length: uint32(len(body))}.append(nil), body...), done
	}
	h := header{kind: kindBlock, seq: q.seq}
	switch {
	case q.cancelled:
		h.status = statusCancelled
	case !d.x.allow(d.s.Peer(), q.cids[0]):
		h.status = statusRefused
	default:
		buf, done, err := d.x.load(ctx, q.cids[0])
		if err != nil || len(buf)-headSize > maxBlock {
			h.status = statusNotHere
			done()
			break
		}
		frame := buf[min(int(q.from), len(buf)-headSize):]
		h.length = uint32(len(frame) - headSize)
		h.append(frame[:0])
		return frame, done
	}
	return h.append(nil), done
}

// load reads a block from the store, behind room for its header; done gives the memory back.
func (x *Exchange) load(ctx context.Context, c cid.Cid) (frame []byte, done func(), err error) {
	buf := x.buffer(aligned)
	done = func() { x.recycle(buf) }
	var data []byte
	if r, ok := x.store.(Reader); ok {
		data, err = r.GetInto(ctx, c, buf[aligned:])
	} else {
		data, err = x.store.Get(ctx, c)
	}
	switch {
	case err != nil:
		x.log.Debug("a block cannot be served", "block", c, "err", err)
		return nil, done, err
	case len(data) > 0 && &data[0] != &buf[:aligned+1][aligned]: // it lies elsewhere
		buf = append(buf, data...)
	}
	return buf[aligned-headSize : aligned+len(data)], done, nil
}

// which is the bitmap of the blocks that this node has and may give to the peer.
func (d *donation) which(ctx context.Context, cids []cid.Cid) []byte {
	bits := make([]byte, (len(cids)+7)/8)
	for i, c := range cids {
		if !d.x.allow(d.s.Peer(), c) {
			continue
		}
		if ok, err := d.x.store.Has(ctx, c); ok && err == nil {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return bits
}

// writeAll writes a frame in pieces of some size, each with a deadline of its own.
func writeAll(s *p2p.Stream, frame []byte, size int) error {
	for len(frame) > 0 {
		n := min(len(frame), size)
		s.SetWriteDeadline(time.Now().Add(pieceTime))
		if _, err := s.Write(frame[:n]); err != nil {
			return err
		}
		frame = frame[n:]
	}
	return nil
}
