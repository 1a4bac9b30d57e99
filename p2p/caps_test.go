package p2p

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// A cap holds: it is exceeded by a tenth at most, sending and receiving, over TCP and QUIC, and over all connections together.
func TestCapsHold(t *testing.T) {
	const rate = 2 << 20 // bytes per second
	for _, tc := range []struct {
		name, listen string
		caps         Caps
		peers        int
	}{
		{"up tcp", tcpOnly, Caps{Up: rate}, 1},
		{"up tcp to three", tcpOnly, Caps{Up: rate}, 3},
		{"down tcp", tcpOnly, Caps{Down: rate}, 1},
		{"down tcp from three", tcpOnly, Caps{Down: rate}, 3},
		{"up quic", quicOnly, Caps{Up: rate}, 1},
		{"down quic", quicOnly, Caps{Down: rate}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			hub := startHost(t, Config{Listen: []string{tc.listen}, Caps: tc.caps})
			var moved atomic.Int64
			sink := func(s *Stream) { drain(s, &moved) }
			hub.Handle("/test/sink/1", sink)
			for range tc.peers {
				far := startHost(t, Config{Listen: []string{tc.listen}})
				far.Handle("/test/sink/1", sink)
				connect(t, far, hub)
				from, to := hub, far
				if tc.caps.Down != 0 {
					from, to = far, hub
				}
				s, err := from.Open(within(t), to.ID(), "/test/sink/1")
				if err != nil {
					t.Fatal(err)
				}
				defer s.Reset()
				go pour(s)
			}
			at := func(after time.Duration) (time.Time, int64) {
				<-time.After(after)
				return time.Now(), moved.Load()
			}
			t0, n0 := at(500 * time.Millisecond)
			t1, n1 := at(1500 * time.Millisecond)
			got := float64(n1-n0) / t1.Sub(t0).Seconds()
			// A machine that is busy with other tests may be slower, never faster.
			if off := got/rate - 1; off > 0.1 || off < -0.3 {
				t.Errorf("%.2f MB/s with a cap of %.2f: %+.0f %%", got/1e6, rate/1e6, 100*off)
			} else {
				t.Logf("%+.1f %%", 100*off)
			}
		})
	}
}

func pour(s *Stream) {
	b := make([]byte, 64<<10)
	for {
		if _, err := s.Write(b); err != nil {
			return
		}
	}
}

func drain(s *Stream, n *atomic.Int64) {
	b := make([]byte, 64<<10)
	for {
		k, err := s.Read(b)
		n.Add(int64(k))
		if err != nil {
			return
		}
	}
}

// Caps may change while connections are open, and heartbeats get through while bulk waits.
func TestCapsChange(t *testing.T) {
	t.Parallel()
	a, b := startHost(t, Config{Caps: Caps{Up: MinCap}}), startHost(t, Config{})
	var moved atomic.Int64
	b.Handle("/test/sink/1", func(s *Stream) { drain(s, &moved) })
	connect(t, a, b)
	seen := watch(t, b)
	expect(t, seen, change{a.ID(), true})
	s, err := a.Open(within(t), b.ID(), "/test/sink/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	go pour(s)
	select {
	case c := <-seen:
		t.Errorf("with a small cap the peer is told %v", c)
	case <-time.After(2 * time.Second):
	}
	if n := moved.Load(); n > 3*MinCap {
		t.Errorf("%d bytes in 2 s with a cap of %d", n, MinCap)
	}
	if err := a.SetCaps(Caps{Up: 1}); err == nil {
		t.Error("a cap that cuts the node off was taken")
	}
	if err := a.SetCaps(Caps{}); err != nil {
		t.Fatal(err)
	}
	if !eventuallyTrue(func() bool { return moved.Load() > 20<<20 }) {
		t.Error("still slow without a cap")
	}
	if up, _ := a.Wire(); up < 20<<20 {
		t.Errorf("%d bytes counted", up)
	}
}

// What a capped node has to say does not wait behind the bulk that it sends: a revocation must not.
func TestControlOvertakesBulk(t *testing.T) {
	t.Parallel()
	a, b := startHost(t, Config{Listen: []string{tcpOnly}, Caps: Caps{Up: 2 * MinCap}}), startHost(t, Config{Listen: []string{tcpOnly}})
	var moved atomic.Int64
	b.Handle("/test/sink/1", func(s *Stream) { drain(s, &moved) })
	heard := make(chan struct{}, 1)
	defer b.Control().Handle("news", func(record.PeerID, []byte) { heard <- struct{}{} })()
	connect(t, a, b)
	for range 4 {
		s, err := a.Open(within(t), b.ID(), "/test/sink/1")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		go pour(s)
	}
	if !eventuallyTrue(func() bool { return moved.Load() > MinCap }) {
		t.Fatal("nothing moves")
	}
	var worst time.Duration
	for range 5 {
		began := time.Now()
		if err := a.Control().Send(b.ID(), "news", make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-heard:
		case <-time.After(20 * time.Second):
			t.Fatal("not heard")
		}
		worst = max(worst, time.Since(began))
	}
	t.Logf("worst of 5: %v", worst)
	if worst > time.Second {
		t.Errorf("a message took %v while bulk was sent", worst)
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	if d := b.reserve(1<<30, 0); d != 0 {
		t.Errorf("without a cap: %v", d)
	}
	b.set(1000)
	for i, tc := range []struct {
		n    int
		now  time.Duration
		want time.Duration
	}{
		{100, 0, 100 * time.Millisecond},
		{100, 0, 200 * time.Millisecond},
		{100, 150 * time.Millisecond, 150 * time.Millisecond},
		{100, 10 * time.Second, 0}, // after a pause the burst passes at once
		{100, 10 * time.Second, 100 * time.Millisecond},
	} {
		if got := b.reserve(tc.n, tc.now); got != tc.want {
			t.Errorf("%d: waits %v, want %v", i, got, tc.want)
		}
	}
}

// BenchmarkPaced is what counting costs where no cap is in force.
func BenchmarkPaced(b *testing.B) {
	h, err := New(Config{Listen: loopback})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	b.SetBytes(16 << 10)
	for b.Loop() {
		h.meter.pass(&h.meter.up, 16<<10, nil)
	}
}
