package xfer

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// sendLater is send of something that nothing waits for.
func (w *world) sendLater(meta string, payload []byte, done func(error)) {
	w.a.Send("b", &Transfer{Service: service, Meta: []byte(meta), Size: len(payload), Later: true, Done: done,
		Read: func(dst []byte, off int) bool { copy(dst, payload[off:]); return true }})
}

// What nothing waits for goes when nothing else is to be sent, all of it, and its bytes are right though it had to make room.
func TestLaterMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		var mu sync.Mutex // guards ended
		var ended []string
		var wg sync.WaitGroup
		note := func(name string) func(error) {
			wg.Add(1)
			return func(err error) {
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				wg.Done()
			}
		}
		payload := randomBytes(MaxTransfer)
		for _, name := range []string{"later 1", "later 2", "later 3"} {
			w.sendLater(name, payload, note(name))
		}
		for _, name := range []string{"now 1", "now 2", "now 3"} {
			w.a.Send("b", &Transfer{Service: service, Meta: []byte(name), Size: len(payload), Done: note(name),
				Read: func(dst []byte, off int) bool { copy(dst, payload[off:]); return true }})
		}
		wg.Wait()
		if i := slices.IndexFunc(ended, func(s string) bool { return s[0] == 'l' }); i < 2 {
			t.Errorf("they ended as %q", ended) // one may be behind in the last lane
		}
		for _, name := range []string{"later 1", "later 2", "later 3"} {
			if !slices.Equal(w.shelf.item(name), payload) {
				t.Errorf("%s came as something else", name)
			}
		}
		synctest.Wait()
		if p := &w.a.patient; p.urgent != 0 || p.busy {
			t.Errorf("%d are still counted, or one is: %v", p.urgent, p.busy)
		}
	})
}

// Counts come out even when lanes break and peers cannot be reached.
func TestLaterAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		for range 3 {
			if err := <-w.send("c", "x", randomBytes(MaxTransfer)); err == nil {
				t.Error("sent to nobody")
			}
		}
		done := make(chan error, 1)
		w.sendLater("later", randomBytes(100_000), func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.shelf.hold = true
		broken := w.send("b", "broken", randomBytes(MaxTransfer))
		synctest.Wait()
		w.a.Send("b", &Transfer{Service: service, Size: MaxTransfer, Done: func(err error) { done <- err },
			Read: func([]byte, int) bool { w.last.Close(); return true }})
		<-done
		synctest.Wait()
		if p := &w.a.patient; p.urgent != 0 || p.busy {
			t.Errorf("%d are still counted, or one is: %v", p.urgent, p.busy)
		}
		select {
		case <-broken:
		default: // on the other lane
		}
	})
}

// To a distant peer there is one lane for bulk.
func TestOneLaneToDistantPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		defer w.close()
		open := w.a.cfg.Open
		w.a.cfg.Open = func(ctx context.Context, to record.PeerID) (Stream, error) {
			s, err := open(ctx, to)
			return distantStream{s}, err
		}
		var all []<-chan error
		for range 6 {
			all = append(all, w.send("b", "x", randomBytes(MaxTransfer)))
		}
		for _, done := range all {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if w.opens != 1 {
			t.Errorf("%d lanes", w.opens)
		}
	})
}

// distantStream is a stream over a long line.
type distantStream struct{ Stream }

func (distantStream) RoundTrip() time.Duration { return 40 * time.Millisecond }

// A receiver has something for the lanes of a large group.
func TestMemoryForMany(t *testing.T) {
	x := New(Config{})
	first, lanes := x.reserve(bulkWindow, firstWindow), 1
	for x.reserve(bulkWindow, firstWindow) > 0 {
		lanes++
	}
	if first != bulkWindow || lanes < 90 {
		t.Errorf("%d lanes, the first with %d bytes", lanes, first)
	}
}
