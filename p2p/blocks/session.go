package blocks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	window     = 4 // gets under way on a stream
	maxAsking  = 2 // haves under way on a stream
	openTime   = 15 * time.Second
	answerTime = 20 * time.Second // until an answer begins
	blockTime  = 2 * time.Minute  // for one whole block
	nap        = 100 * time.Millisecond
	maxPost    = 64 << 10 // bytes of requests written at once
	idleNaps   = 50       // after so many naps with nothing to ask, another donor gets the place
	maxStoring = 6        // blocks of one donor being stored: a store that syncs to disk groups concurrent writes
)

// session is one stream to a donor. Its goroutine asks and reads; a second one writes, so that anybody can post
// without waiting.
type session struct {
	f    *fetch
	s    *p2p.Stream
	bulk bool // it has a connection of its own
	d    *donor
	out  chan request
	seq  uint32
	asks []question       // haves under way
	slow bool             // the latest block was slow to come
	open map[uint32]*part // gets under way, by seq

	storing chan struct{} // holds a token for each block being stored
	stores  sync.WaitGroup
	got     int   // blocks stored; guarded by fetch.mu
	err     error // of a store; guarded by fetch.mu
}

// question is a have under way.
type question struct {
	seq    uint32
	blocks []int
}

// session asks one peer until the fetch is over, the peer fails, or it has nothing to give.
func (f *fetch) session(ctx context.Context, peer record.PeerID) (delivered int, err error) {
	stream, bulk, err := f.open(ctx, peer)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{f: f, s: stream, bulk: bulk, out: make(chan request, 4*maxQueued), open: map[uint32]*part{}, storing: make(chan struct{}, maxStoring)}
	f.mu.Lock()
	s.d = f.plan.join()
	f.sessions[s.d] = s
	f.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { s.write(ctx) })
	context.AfterFunc(ctx, func() { stream.Reset() }) // wakes the reader
	err = s.run(ctx)
	s.stores.Wait()
	for _, t := range s.open {
		t.close()
	}
	cancel()
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, s.d)
	f.plan.leave(s.d)
	if s.bulk && s.got > 0 {
		f.peers[peer].bulk--
	}
	if s.err != nil {
		err = s.err // the stream's error came of it
	}
	return s.got, err
}

// open opens a stream. The first to a peer is an ordinary one, which is there at once; while there is plenty to fetch from one
// that delivers, the others have connections of their own, where these can be had.
func (f *fetch) open(ctx context.Context, peer record.PeerID) (s *p2p.Stream, bulk bool, err error) {
	f.mu.Lock()
	bulk = f.peers[peer].gave && f.plan.plenty()
	others := f.peers[peer].bulk > 0
	f.mu.Unlock()
	if bulk {
		if s, err = f.x.h.OpenBulk(ctx, peer, protocol); err == nil || others { // an ordinary one would have nothing to do
			return s, true, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	s, err = f.x.h.Open(ctx, peer, protocol)
	return s, false, err
}

// retired reports that connections for bulk do this stream's work. Called with fetch.mu held.
func (s *session) retired() bool { return !s.bulk && s.f.peers[s.s.Peer()].bulk > 0 }

// post queues a request; one that does not fit is a cancel nobody needs, as gets and haves are limited.
func (s *session) post(q request) {
	select {
	case s.out <- q:
	default:
	}
}

func (s *session) write(ctx context.Context) {
	for {
		var b []byte
		select {
		case <-ctx.Done():
			return
		case q := <-s.out:
			b = q.append(nil)
		}
		for len(s.out) > 0 && len(b) < maxPost {
			b = (<-s.out).append(b)
		}
		s.s.SetWriteDeadline(time.Now().Add(pieceTime))
		if _, err := s.s.Write(b); err != nil {
			s.s.Reset() // the reader reports it
			return
		}
	}
}

func (s *session) run(ctx context.Context) error {
	r := bufio.NewReaderSize(s.s, 32<<10)
	for naps := 0; ; {
		if err := s.fill(ctx); err != nil {
			return err
		}
		if s.waiting() {
			naps = 0
			if err := s.read(ctx, r); err != nil {
				return err
			}
			continue
		}
		if s.over() {
			return nil
		}
		if naps++; naps > idleNaps {
			return errors.New("has none of the missing blocks")
		}
		if err := s.nap(ctx, naps); err != nil {
			return err
		}
	}
}

// waiting reports whether an answer is due.
func (s *session) waiting() bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return len(s.asks) > 0 || len(s.d.queue) > 0
}

// over reports that nothing is due any more, because the fetch ended or this stream is not needed.
func (s *session) over() bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.f.plan.finished() || s.retired()
}

// nap waits for a theft to become worth while, and every second asks the donor again.
func (s *session) nap(ctx context.Context, n int) error {
	t := time.NewTimer(nap)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.f.over:
		return nil
	case <-t.C:
	}
	if n%int(poll/nap) == 0 {
		s.f.mu.Lock()
		s.f.plan.again(s.d)
		s.f.mu.Unlock()
	}
	return nil
}

// fill posts as many questions and gets as may be under way.
func (s *session) fill(ctx context.Context) error {
	if s.over() {
		return nil
	}
	if err := s.inquire(ctx); err != nil {
		return err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for len(s.d.queue) < window {
		block, victim, old, ok := s.f.plan.take(s.d, s.seq, s.f.now())
		if !ok {
			return nil
		}
		t := s.f.x.parts.open(s.f.cids[block])
		s.open[s.seq] = t
		s.post(request{kind: kindGet, seq: s.seq, cids: s.f.cids[block : block+1], from: uint32(len(t.begin))})
		s.seq++
		if v := s.f.sessions[victim]; v != nil {
			v.post(request{kind: kindCancel, seq: old})
		}
	}
	return nil
}

// inquire asks which of the missing blocks the donor has, well before it runs out of work.
func (s *session) inquire(ctx context.Context) error {
	for len(s.asks) < maxAsking {
		s.f.mu.Lock()
		var blocks []int
		if s.f.plan.hungry(s.d, 4*window) {
			blocks = s.f.plan.question(s.d, maxHaves)
		}
		s.f.mu.Unlock()
		blocks, err := s.f.missing(ctx, blocks)
		if err != nil || len(blocks) == 0 {
			return err
		}
		q := request{kind: kindHave, seq: s.seq}
		for _, b := range blocks {
			q.cids = append(q.cids, s.f.cids[b])
		}
		s.post(q)
		s.asks = append(s.asks, question{seq: s.seq, blocks: blocks})
		s.seq++
	}
	return nil
}

// missing drops blocks that came into the store by another way.
func (f *fetch) missing(ctx context.Context, blocks []int) ([]int, error) {
	var lack, have []int
	for _, b := range blocks {
		ok, err := f.x.store.Has(ctx, f.cids[b])
		switch {
		case err != nil:
			return nil, err
		case ok:
			have = append(have, b)
		default:
			lack = append(lack, b)
		}
	}
	if len(have) > 0 {
		f.have(have...)
	}
	return lack, nil
}

// read takes one answer.
func (s *session) read(ctx context.Context, r io.Reader) error {
	s.s.SetReadDeadline(time.Now().Add(answerTime))
	h, err := readHeader(r)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	switch h.kind {
	case kindHas:
		return s.readHas(h, r)
	case kindBlock:
		return s.readBlock(ctx, h, r)
	}
	return fmt.Errorf("%w: kind %d as an answer", errFrame, h.kind)
}

func (s *session) readHas(h header, r io.Reader) error {
	if len(s.asks) == 0 || s.asks[0].seq != h.seq || int(h.length) != (len(s.asks[0].blocks)+7)/8 {
		return fmt.Errorf("%w: answer to no question", errFrame)
	}
	bits := make([]byte, h.length)
	if _, err := io.ReadFull(r, bits); err != nil {
		return err
	}
	q := s.asks[0]
	s.asks = s.asks[1:]
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for i, b := range q.blocks {
		if bits[i/8]>>(i%8)&1 != 0 {
			s.d.has.set(b)
		}
	}
	return nil
}

func (s *session) readBlock(ctx context.Context, h header, r io.Reader) error {
	t := s.open[h.seq]
	if t == nil || int(h.length) > maxBlock-len(t.begin) {
		return fmt.Errorf("%w: answer to no request", errFrame)
	}
	data, err := s.body(r, t, int(h.length))
	delete(s.open, h.seq)
	if err != nil {
		t.close()
		return fmt.Errorf("a block stopped half-way: %w", err)
	}
	s.f.mu.Lock()
	block, useful, ok := s.f.plan.answered(s.d, h.seq, h.status == statusOK, s.f.now())
	s.f.mu.Unlock()
	if !useful {
		t.close()
		s.recycle(data)
	}
	if !ok {
		return fmt.Errorf("%w: answer to no request", errFrame)
	}
	if useful {
		s.storing <- struct{}{}
		s.stores.Go(func() {
			defer func() { <-s.storing }()
			s.keep(ctx, block, t, data)
		})
	}
	return nil
}

// keep puts a block into the store; if that fails the session ends.
func (s *session) keep(ctx context.Context, block int, t *part, data []byte) {
	err := s.f.keep(ctx, s.d, block, t, data)
	s.recycle(data)
	s.f.mu.Lock()
	if src := s.f.peers[s.s.Peer()]; err == nil {
		if s.got++; s.got == 1 && s.bulk {
			src.bulk++
		}
		if !src.gave {
			src.gave = true
			s.f.wake()
		}
	} else if s.err == nil {
		s.err = err
	}
	s.f.mu.Unlock()
	if err != nil {
		s.s.Reset() // wakes the reader
	}
}

// body reads the n bytes that follow the part's beginning; they must keep coming. Of a block that is slow to come, what is
// here is saved every few reads.
func (s *session) body(r io.Reader, t *part, n int) ([]byte, error) {
	data := s.buffer(len(t.begin) + n)
	at := copy(data, t.begin)
	began := time.Now()
	for at < len(data) {
		now := time.Now()
		s.s.SetReadDeadline(now.Add(pieceTime))
		n, err := r.Read(data[at:])
		at += n
		if now.Sub(began) > blockTime && err == nil {
			err = fmt.Errorf("%d of %d bytes in %v", at, len(data), blockTime)
		}
		if at == len(data) {
			break
		}
		slow := s.slow || now.Sub(began) > saveAfter
		if err != nil || slow && at >= t.saved+saveSize {
			t.save(data[:at])
		}
		if err != nil {
			return nil, err
		}
	}
	s.slow = time.Since(began) > saveAfter
	return data, nil
}

// buffer is memory for a block; only a store that is done with it when it returns lets it be used again.
func (s *session) buffer(n int) []byte {
	if _, ok := s.f.x.store.(Later); ok {
		return s.f.x.buffer(n)
	}
	return make([]byte, n)
}

func (s *session) recycle(data []byte) {
	if _, ok := s.f.x.store.(Later); ok {
		s.f.x.recycle(data)
	}
}
