package xfer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// pipe is a Stream in memory; it has no buffer, so whatever waits shows at once.
type pipe struct {
	net.Conn
	peer record.PeerID
}

func (p pipe) Peer() record.PeerID { return p.peer }
func (p pipe) Reset() error        { return p.Close() }

// shelf is a service that keeps what it gets.
type shelf struct {
	mu      sync.Mutex
	refuse  map[string]Code // by meta
	held    map[string]bool // answers Taken at once
	got     map[string][]byte
	dropped int
	hold    bool // keep receipts back
	kept    []func(Code)
}

type shelfDelivery struct {
	s    *shelf
	meta string
	buf  []byte
}

func (s *shelf) Offer(from record.PeerID, meta []byte, size int) (Delivery, Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.refuse[string(meta)]; c != 0 {
		return nil, c
	}
	if s.held[string(meta)] {
		return nil, Taken
	}
	return &shelfDelivery{s, string(meta), make([]byte, size)}, 0
}

func (d *shelfDelivery) Buffer() []byte { return d.buf }

func (d *shelfDelivery) Done(receipt func(Code)) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.got == nil {
		d.s.got = map[string][]byte{}
	}
	d.s.got[d.meta] = d.buf
	if d.s.hold {
		d.s.kept = append(d.s.kept, receipt)
		return
	}
	receipt(Taken)
}

func (d *shelfDelivery) Drop() {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.dropped++
}

func (s *shelf) item(meta string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[meta]
}

func (s *shelf) items() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// world is one sender and one receiver joined by pipes.
type world struct {
	a, b  *Xfer
	shelf *shelf
	serve sync.WaitGroup
	opens int
	mu    sync.Mutex
	last  net.Conn // the receiver's end of the newest lane
}

const service = 7

func newWorld(edit func(*Config)) *world {
	w := &world{shelf: &shelf{}}
	cfg := Config{Memory: 512 << 20}
	if edit != nil {
		edit(&cfg)
	}
	w.b = New(cfg)
	w.b.Handle(service, w.shelf)
	cfg.Open = func(ctx context.Context, to record.PeerID) (Stream, error) {
		if to != "b" {
			return nil, errors.New("no such peer")
		}
		near, far := net.Pipe()
		w.mu.Lock()
		w.opens++
		w.last = far
		w.mu.Unlock()
		w.serve.Go(func() { w.b.Serve(pipe{far, "a"}) })
		return pipe{near, "b"}, nil
	}
	w.a = New(cfg)
	return w
}

func (w *world) close() {
	w.a.Close()
	w.b.Close()
	w.serve.Wait()
}

// send starts a transfer and returns where its error will be.
func (w *world) send(to record.PeerID, meta string, payload []byte) <-chan error {
	done := make(chan error, 2)
	w.a.Send(to, &Transfer{Service: service, Meta: []byte(meta), Size: len(payload),
		Read: func(dst []byte, off int) bool { copy(dst, payload[off:]); return true },
		Done: func(err error) { done <- err }})
	return done
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(b)
	return b
}

func TestTransfers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		sizes := []int{0, 1, 5, smallSize, smallSize + 1, maxPart - 1, maxPart, maxPart + 1, MaxTransfer - 3, MaxTransfer}
		var done []<-chan error
		for range 8 {
			for _, n := range sizes {
				done = append(done, w.send("b", string(rune('a'+len(done))), randomBytes(n)))
			}
		}
		for i, d := range done {
			if err := <-d; err != nil {
				t.Fatalf("transfer %d: %v", i, err)
			}
			if got := w.shelf.item(string(rune('a' + i))); !bytes.Equal(got, randomBytes(sizes[i%len(sizes)])) {
				t.Fatalf("transfer %d: %d bytes differ", i, len(got))
			}
		}
		if w.opens != 3 {
			t.Errorf("%d lanes", w.opens)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		w.shelf.refuse = map[string]Code{"no": 3}
		w.shelf.held = map[string]bool{"held": true}
		big := randomBytes(MaxTransfer)
		no, held, yes := w.send("b", "no", big), w.send("b", "held", big), w.send("b", "yes", big)
		if err := <-no; err != (Refused{3}) {
			t.Error(err)
		}
		if err := <-held; err != nil {
			t.Error(err)
		}
		if err := <-yes; err != nil || w.shelf.items() != 1 {
			t.Error(err, w.shelf.items())
		}
		unknown := make(chan error, 1)
		w.a.Send("b", &Transfer{Service: 9, Done: func(err error) { unknown <- err }})
		if err := <-unknown; err != (Refused{CodeNoService}) {
			t.Error(err)
		}
		if err := <-w.send("c", "x", nil); err == nil {
			t.Error("sent to nobody")
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		for parts := range 3 {
			done := make(chan error, 1)
			calls := 0
			w.a.Send("b", &Transfer{Service: service, Meta: []byte{byte(parts)}, Size: MaxTransfer,
				Read: func(dst []byte, off int) bool { calls++; return calls <= parts },
				Done: func(err error) { done <- err }})
			if err := <-done; err != ErrCanceled {
				t.Errorf("after %d parts: %v", parts, err)
			}
		}
		if err := <-w.send("b", "next", randomBytes(100_000)); err != nil || w.shelf.dropped != 3 {
			t.Errorf("the lane does not go on: %v, %d dropped", err, w.shelf.dropped)
		}
	})
}

// What the receiver has not dealt with stays within the window; small transfers go on.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(c *Config) { c.BulkLanes = 1 })
		defer w.close()
		w.shelf.hold = true
		var done []<-chan error
		for i := range 30 {
			done = append(done, w.send("b", string(rune('a'+i)), randomBytes(MaxTransfer)))
		}
		synctest.Wait()
		if n := w.shelf.items(); n != bulkWindow/MaxTransfer {
			t.Fatalf("%d transfers are open, want %d", n, bulkWindow/MaxTransfer)
		}
		w.send("b", "small", []byte("hello"))
		time.Sleep(time.Minute) // virtual: signs of life keep the lanes open while receipts are owed
		synctest.Wait()
		if string(w.shelf.item("small")) != "hello" {
			t.Fatal("small waits for bulk")
		}
		w.shelf.mu.Lock()
		w.shelf.hold = false
		kept := w.shelf.kept
		w.shelf.mu.Unlock()
		for _, r := range kept {
			r(Taken)
			r(Taken) // twice does no harm
		}
		for i, d := range done {
			if err := <-d; err != nil {
				t.Fatalf("transfer %d: %v", i, err)
			}
		}
	})
}

// A lane whose receiver falls silent is given up; a new one takes what comes next.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		if err := <-w.send("b", "1", nil); err != nil {
			t.Fatal(err)
		}
		deaf := func(ctx context.Context, to record.PeerID) (Stream, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { far.Close() })
			return pipe{near, "b"}, nil
		}
		x := New(Config{Open: deaf})
		defer x.Close()
		start := time.Now()
		done := make(chan error, 1)
		x.Send("b", &Transfer{Size: 10, Read: func([]byte, int) bool { return true }, Done: func(err error) { done <- err }})
		err := <-done
		if d := time.Since(start); err == nil || d < 4*time.Second || d > 20*time.Second {
			t.Fatalf("%v after %v", err, d)
		}
	})
}

func TestBrokenLaneFailsItsTransfers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(c *Config) { c.BulkLanes = 1 })
		defer w.close()
		w.shelf.hold = true
		one := w.send("b", "1", randomBytes(100_000))
		synctest.Wait()
		w.last.Close()
		if err := <-one; err == nil {
			t.Fatal("no error")
		}
		w.shelf.mu.Lock()
		w.shelf.hold = false
		w.shelf.mu.Unlock()
		if err := <-w.send("b", "2", randomBytes(100_000)); err != nil || w.opens != 2 {
			t.Fatalf("%v, %d lanes opened", err, w.opens)
		}
	})
}

func TestIdleLanesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		if err := <-w.send("b", "1", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * laneIdle) // virtual
		synctest.Wait()
		if n := len(w.b.streams); n != 0 {
			t.Fatalf("%d lanes are still served", n)
		}
		if w.b.free != w.b.cfg.Memory {
			t.Fatalf("%d bytes of memory not given back", w.b.cfg.Memory-w.b.free)
		}
		if len(w.a.peers) != 0 {
			t.Fatal("the peer is not forgotten")
		}
		if err := <-w.send("b", "2", nil); err != nil || w.opens != 2 {
			t.Fatal(err, w.opens)
		}
	})
}

func TestCloseFailsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(c *Config) { c.BulkLanes = 1 })
		w.shelf.hold = true
		var done []<-chan error
		for range 20 {
			done = append(done, w.send("b", "x", randomBytes(MaxTransfer)))
		}
		synctest.Wait()
		w.close()
		for _, d := range done {
			if err := <-d; err == nil {
				t.Fatal("no error")
			}
		}
		if err := <-w.send("b", "late", nil); err != errClosed {
			t.Fatal(err)
		}
	})
}

// One peer cannot take all lanes, and so all memory.
func TestLanesOfOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		var far []net.Conn
		for range 20 {
			near, b := net.Pipe()
			far = append(far, near)
			w.serve.Go(func() { w.b.Serve(pipe{b, "greedy"}) })
		}
		synctest.Wait()
		if n := w.b.served["greedy"]; n != 6 {
			t.Errorf("%d lanes are served", n)
		}
		for _, c := range far {
			c.Close()
		}
		synctest.Wait()
		if len(w.b.served) != 0 {
			t.Error("lanes are not given back")
		}
	})
}

// The memory for all lanes is one budget; a lane beyond it is refused.
func TestMemoryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(c *Config) { c.Memory, c.BulkLanes = firstWindow+firstWindow/2, 2 })
		defer w.close()
		w.shelf.hold = true
		for range 40 {
			w.send("b", "x", randomBytes(MaxTransfer))
		}
		time.Sleep(time.Second) // virtual
		w.b.mu.Lock()
		free := w.b.free
		w.b.mu.Unlock()
		if free != firstWindow/2 {
			t.Fatalf("%d bytes are free", free)
		}
	})
}

// What nothing waits for is behind everything else, however long it has been there.
func TestLater(t *testing.T) {
	var q queue
	for _, size := range []int{1, 2, 3, 4, 5} {
		q.push(&Transfer{Size: size, Later: size%2 == 1})
	}
	for _, want := range []int{2, 4, 1, 3} {
		if got := q.pop(); got.Size != want {
			t.Fatalf("got %d, want %d", got.Size, want)
		}
	}
	if rest := q.clear(); len(rest) != 1 || rest[0].Size != 5 || q.len() != 0 || q.pop() != nil {
		t.Fatalf("%d are left", len(rest))
	}
}
