package p2p

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

func TestKnock(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	here, there, nat := netip.MustParseAddrPort("192.0.2.1:4481"), netip.MustParseAddrPort("192.0.2.2:4481"), netip.MustParseAddrPort("198.51.100.7:9")
	initial, answer, short := []byte{0xc3, 0, 0, 0, 1}, []byte{0xe1, 0, 0, 0, 1}, []byte{0x43, 1, 2}
	open := func(b *knocks, k []byte, at time.Time) bool {
		if b.admit(k, nat, at) {
			t.Error("QUIC sees a knock")
		}
		return b.admit(initial, nat, at)
	}
	a, b := newKnocks([]byte("secret")), newKnocks([]byte("secret"))
	k := a.before(initial, there, now)
	for name, tc := range map[string]struct {
		knock []byte
		at    time.Time
		want  bool
	}{
		"a member's":                {k, now, true},
		"from a clock that is off":  {k, now.Add(-9 * time.Minute), true},
		"too old":                   {k, now.Add(11 * time.Minute), false},
		"another secret's":          {newKnocks([]byte("other")).before(initial, there, now), now, false},
		"changed":                   {append(bytes.Clone(k[:knockSize-1]), k[knockSize-1]^1), now, false},
		"cut short":                 {k[:knockSize-1], now, false},
		"none but a packet's start": {[]byte{knockVersion}, now, false},
	} {
		b := newKnocks([]byte("secret"))
		b.admit(tc.knock, nat, tc.at)
		if got := b.admit(initial, nat, tc.at); got != tc.want {
			t.Errorf("%s: open %v", name, got)
		}
	}
	if !open(b, k, now) || b.admit(initial, nat, now.Add(2*time.Minute)) {
		t.Error("the port is open for a minute after a knock, no longer")
	}
	if open(b, k, now.Add(2*time.Minute)) {
		t.Error("a recorded knock opened the port again")
	}
	if !a.admit(answer, there, now) || a.admit(answer, here, now) {
		t.Error("an answer passes from where we knocked alone")
	}
	if !b.admit(short, here, now) {
		t.Error("a packet of a connection is held back")
	}
	b.admit(a.before(initial, nat, now), nat, now)
	if b.before(initial, nat, now) != nil || b.before(short, here, now) != nil {
		t.Error("who was knocked at knocks back")
	}
}

// A stranger who dials over QUIC with the node's address gets no answer at all, so no certificate.
func TestStrangerSeesNoCertificate(t *testing.T) {
	f := found(t)
	a, _, _ := f.member(t, swarm.Admin, time.Now(), quicOnly)
	info, err := peer.AddrInfoFromString(a.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.WithDialTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	// Asking for another peer ID, a stranger who sees the certificate would be told whose it is.
	other := startHost(t, Config{})
	if info.ID, err = peer.Decode(string(other.ID())); err != nil {
		t.Fatal(err)
	}
	err = stranger.Connect(within(t), *info)
	if err == nil || bytes.Contains([]byte(err.Error()), []byte(a.ID())) {
		t.Errorf("the stranger's dial: %v", err)
	}
	b, _, _ := f.member(t, swarm.Volunteer, time.Now(), quicOnly)
	connect(t, b, a)
}

func FuzzKnock(f *testing.F) {
	at, now := netip.MustParseAddrPort("192.0.2.1:4481"), time.Unix(1_800_000_000, 0)
	f.Add(newKnocks([]byte("other")).before([]byte{0xc0}, at, now))
	f.Add([]byte{0xc0})
	f.Add([]byte{})
	k := newKnocks([]byte("secret"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if passed := k.admit(b, at, now); passed && (len(b) == 0 || b[0]&0x80 != 0) {
			t.Errorf("% x passed", b)
		}
	})
}
