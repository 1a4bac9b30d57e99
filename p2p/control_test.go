package p2p

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

type heard struct {
	from record.PeerID
	text string
}

func listen(t *testing.T, h *Host, topic string) <-chan heard {
	c := make(chan heard, 10000)
	t.Cleanup(h.Control().Handle(topic, func(from record.PeerID, p []byte) { c <- heard{from, string(p)} }))
	return c
}

func send(t *testing.T, from, to *Host, topic, text string) {
	t.Helper()
	if err := from.Control().Send(to.ID(), topic, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestControlOrder(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	got := listen(t, b, "job/x/log")
	connect(t, a, b)
	for i := range 1000 {
		send(t, a, b, "job/x/log", fmt.Sprint(i))
	}
	for i := range 1000 {
		expect(t, got, heard{a.ID(), fmt.Sprint(i)})
	}
	back := listen(t, a, "job/x/log")
	send(t, b, a, "job/x/log", strings.Repeat("x", MaxPayload))
	expect(t, back, heard{b.ID(), strings.Repeat("x", MaxPayload)})
}

func TestControlConnectsByItself(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	if _, err := a.Learn(b.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	got := listen(t, b, "hi")
	send(t, a, b, "hi", "unannounced")
	expect(t, got, heard{a.ID(), "unannounced"})
}

func TestControlWaitsForHandler(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	other := listen(t, b, "other")
	for i := range 10 {
		send(t, a, b, "late", fmt.Sprint(i))
	}
	send(t, a, b, "other", "now")
	expect(t, other, heard{a.ID(), "now"}) // so the ten arrived
	for range 2 {
		got := make(chan heard, 100)
		stop := b.Control().Handle("late", func(from record.PeerID, p []byte) { got <- heard{from, string(p)} })
		for i := range 10 {
			expect(t, got, heard{a.ID(), fmt.Sprint(i)})
		}
		stop()
		for i := range 10 {
			send(t, a, b, "late", fmt.Sprint(i))
		}
		send(t, a, b, "other", "now")
		expect(t, other, heard{a.ID(), "now"})
	}
}

func TestSlowHandlerStallsOnlyItsTopic(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	block := make(chan struct{})
	stop := b.Control().Handle("slow", func(record.PeerID, []byte) { <-block })
	quick := listen(t, b, "quick")
	for range 3 * topicLimits.peerCount { // more than fits
		send(t, a, b, "slow", "x")
	}
	send(t, a, b, "quick", "through")
	expect(t, quick, heard{a.ID(), "through"})
	b.Control().mu.Lock()
	if n := len(b.Control().topics["slow"].box.q); n > topicLimits.peerCount {
		t.Errorf("%d messages wait", n)
	}
	b.Control().mu.Unlock()
	if n := a.Control().Dropped() + b.Control().Dropped(); n < topicLimits.peerCount { // the sender's queue may be full too
		t.Errorf("%d dropped messages were counted", n)
	}
	close(block)
	stop()
}

func TestControlSendErrors(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	for name, err := range map[string]error{
		"large payload": a.Control().Send(b.ID(), "t", make([]byte, MaxPayload+1)),
		"no topic":      a.Control().Send(b.ID(), "", nil),
		"long topic":    a.Control().Send(b.ID(), strings.Repeat("t", MaxTopic+1), nil),
		"bad peer":      a.Control().Send("me", "t", nil),
		"self":          a.Control().Send(a.ID(), "t", nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := a.Control().Send(b.ID(), "t", nil); err != nil {
		t.Errorf("unreachable peer: %v", err) // queued, then lost
	}
}

func TestControlOverQUIC(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
	connect(t, a, b)
	got := listen(t, b, "t")
	send(t, a, b, "t", "over UDP")
	expect(t, got, heard{a.ID(), "over UDP"})
}

// BenchmarkControl is a message there and back.
func BenchmarkControl(b *testing.B) {
	var hs []*Host
	for range 2 {
		h, err := New(Config{Listen: loopback})
		if err != nil {
			b.Fatal(err)
		}
		defer h.Close()
		hs = append(hs, h)
	}
	if err := hs[0].Connect(b.Context(), hs[1].Addrs()[0]); err != nil {
		b.Fatal(err)
	}
	back := make(chan struct{}, 1)
	defer hs[0].Control().Handle("t", func(record.PeerID, []byte) { back <- struct{}{} })()
	defer hs[1].Control().Handle("t", func(from record.PeerID, p []byte) { hs[1].Control().Send(from, "t", p) })()
	for b.Loop() {
		if err := hs[0].Control().Send(hs[1].ID(), "t", make([]byte, 1000)); err != nil {
			b.Fatal(err)
		}
		<-back
	}
}

// raw opens a control stream by hand, as a hostile peer could.
func raw(t *testing.T, from, to *Host, b []byte) *Stream {
	t.Helper()
	s, err := from.Open(within(t), to.ID(), controlProtocol)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostileControlStreams(t *testing.T) {
	a, b, hostile := startHost(t, Config{}), startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	connect(t, hostile, b)
	hi := hello{swarm: "public", boot: 7, serial: 1 << 60}.frame().append(nil)
	head := func(k kind, topic uint16, payload uint32) []byte {
		b := []byte{byte(k), 0}
		b = binary.BigEndian.AppendUint16(b, topic)
		return binary.BigEndian.AppendUint32(b, payload)
	}
	for _, tc := range []struct {
		name string
		b    []byte
	}{
		{"message before hello", frame{kind: kindMessage, topic: "t"}.append(nil)},
		{"huge hello", head(kindHello, 10, 1<<31)},
		{"wrong version", append(append([]byte{1, 0, 0, 6, 0, 0, 0, 17}, "public"...), make([]byte, 17)...)},
		{"huge payload", append(hi[:len(hi):len(hi)], head(kindMessage, 1, MaxPayload+1)...)},
		{"huge topic", append(hi[:len(hi):len(hi)], head(kindMessage, MaxTopic+1, 1)...)},
		{"unknown kind", append(hi[:len(hi):len(hi)], head(99, 0, 0)...)},
		{"pong forwards", append(hi[:len(hi):len(hi)], head(kindPong, 0, 8)...)},
		{"second hello", append(hi[:len(hi):len(hi)], hi...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := raw(t, hostile, b, tc.b)
			if _, err := io.Copy(io.Discard, s); err != nil && strings.Contains(err.Error(), "deadline") {
				t.Error("the stream was left open")
			}
			s.Reset()
		})
	}
	got := listen(t, b, "still")
	send(t, a, b, "still", "here")
	expect(t, got, heard{a.ID(), "here"})
}

func TestByeNamesTheReason(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	s := raw(t, a, b, hello{swarm: "elsewhere", boot: 1, serial: 1}.frame().append(nil))
	defer s.Reset()
	f, err := readFrame(bufio.NewReader(s))
	if err != nil || f.kind != kindBye || !strings.Contains(string(f.payload), `"elsewhere"`) {
		t.Errorf("got %d %q: %v", f.kind, f.payload, err)
	}
}

// A stream that is not the newest must not deliver any more: that would break the order.
func TestNewerStreamReplacesOlder(t *testing.T) {
	a, b := startHost(t, Config{Listen: []string{}}), startHost(t, Config{})
	got := listen(t, b, "t")
	connect(t, a, b)
	send(t, a, b, "t", "link")
	expect(t, got, heard{a.ID(), "link"})
	say := func(serial uint64, text string) *Stream {
		return raw(t, a, b, frame{kind: kindMessage, topic: "t", payload: []byte(text)}.append(
			hello{swarm: "public", boot: a.Boot(), serial: serial}.frame().append(nil)))
	}
	s := say(1<<40, "new")
	defer s.Reset()
	expect(t, got, heard{a.ID(), "new"})
	old := say(1<<39, "old")
	if _, err := io.Copy(io.Discard, old); err != nil && strings.Contains(err.Error(), "deadline") {
		t.Error("the older stream was left open")
	}
	if _, err := s.Write(frame{kind: kindMessage, topic: "t", payload: []byte("more")}.append(nil)); err != nil {
		t.Fatal(err)
	}
	expect(t, got, heard{a.ID(), "more"})
}

func TestHeartbeatMeasuresLatency(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	c := a.Control()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.h.life(b.ID()).rtt.Load() == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("no round trip was measured")
		}
	}
	if l := a.Peers()[0].Latency; l <= 0 || l > time.Second {
		t.Errorf("latency %v on loopback", l)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(hello{swarm: "public", boot: 1, serial: 2}.frame().append(nil))
	f.Add(frame{kind: kindMessage, topic: "job/x", payload: []byte("body")}.append(nil))
	f.Add(frame{kind: kindPing, payload: make([]byte, 8)}.append(nil))
	f.Add(frame{kind: kindBye, payload: []byte("no")}.append(nil))
	f.Add([]byte{2, 0, 255, 255, 255, 255, 255, 255})
	f.Add([]byte{2, 0, 0, 1, 0, 0, 1, 0, 't'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		fr, err := readFrame(r)
		if err != nil {
			return
		}
		if again := fr.append(nil); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("read %x, wrote %x", b[:len(b)-r.Len()], again)
		}
		if fr.size() > headerSize+MaxTopic+MaxPayload {
			t.Errorf("a frame of %d bytes", fr.size())
		}
		parseHello(fr, "public")
	})
}
