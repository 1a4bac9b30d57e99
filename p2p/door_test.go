package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// founded is a private swarm with its root key.
type founded struct {
	swarm.Identity
	root swarm.Issuer
}

func found(t *testing.T) founded {
	t.Helper()
	key := newKey(t)
	return founded{
		swarm.Identity{Name: "lab", Root: idOf(key), Secret: swarm.NewSecret()},
		swarm.Issuer{Key: key},
	}
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func idOf(key ed25519.PrivateKey) record.PeerID {
	return record.IDOf(key.Public().(ed25519.PublicKey))
}

// uses is a ledger in memory.
type uses struct {
	mu sync.Mutex
	of map[string][]record.PeerID
}

func (u *uses) Use(v swarm.Invite, id record.PeerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range u.of[v.ID] {
		if p == id {
			return nil
		}
	}
	if len(u.of[v.ID]) >= v.Uses {
		return fmt.Errorf("the invite is used up")
	}
	u.of[v.ID] = append(u.of[v.ID], id)
	return nil
}

// logbook is a log that a test reads.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// member starts a host of the swarm whose membership was made at from.
func (f founded) member(t *testing.T, role swarm.Role, from time.Time, listen ...string) (*Host, *swarm.Membership, *logbook) {
	t.Helper()
	key, now := newKey(t), time.Now
	chain, err := f.root.Issue(f.Root, idOf(key), role, from)
	if err != nil {
		t.Fatal(err)
	}
	var issuer *swarm.Issuer
	if role == swarm.Admin {
		issuer = &f.root
	}
	m, err := swarm.NewMembership(f.Identity, key, chain, issuer, swarm.NewRoll(f.Root, now), &uses{of: map[string][]record.PeerID{}}, now)
	if err != nil {
		t.Fatal(err)
	}
	book := &logbook{}
	return startHost(t, Config{Swarm: f.Name, Key: key, Listen: listen, Door: m, Log: book.logger()}), m, book
}

func (f founded) token(t *testing.T, at *Host, uses int, until time.Time) swarm.Token {
	t.Helper()
	tok, _, err := f.root.NewToken(f.Identity, swarm.Volunteer, uses, until, until.Add(-time.Hour), at.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var tcpOnly, quicOnly = "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"

func TestMembersMeet(t *testing.T) {
	for _, listen := range []string{tcpOnly, quicOnly} {
		t.Run(listen, func(t *testing.T) {
			f := found(t)
			a, am, _ := f.member(t, swarm.Admin, time.Now(), listen)
			b, bm, _ := f.member(t, swarm.Volunteer, time.Now().Add(5*time.Minute), listen) // its issuer's clock was ahead
			seen := watch(t, a)
			connect(t, b, a)
			expect(t, seen, change{b.ID(), true})
			got := listenTo(t, a)
			send(t, b, a, "t", "hello")
			expect(t, got, heard{b.ID(), "hello"})
			for _, m := range []*swarm.Membership{am, bm} {
				if n := len(m.Roll().Members()); n != 2 {
					t.Errorf("%d members known, want 2", n)
				}
			}
		})
	}
}

func listenTo(t *testing.T, h *Host) <-chan heard { return listen(t, h, "t") }

func TestJoinWithInvite(t *testing.T) {
	for _, listen := range []string{tcpOnly, quicOnly} {
		t.Run(listen, func(t *testing.T) {
			f := found(t)
			a, _, book := f.member(t, swarm.Admin, time.Now(), listen)
			key := newKey(t)
			tok := f.token(t, a, 1, time.Now().Add(time.Hour))
			for range 2 { // an answer may be lost: the same node may come again
				chain, err := Join(within(t), key, tok, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatalf("%v\n%s", err, book.text())
				}
				m, err := swarm.NewRoll(f.Root, time.Now).Check(idOf(key), chain)
				if err != nil || m.Role != swarm.Volunteer {
					t.Errorf("joined as %+v, %v", m, err)
				}
			}
			if len(a.Peers()) != 0 {
				t.Error("a guest stays connected")
			}
		})
	}
}

// A node that tests whether another can be reached dials it with a fresh identity, for which a member gives its word.
func TestProbe(t *testing.T) {
	f := found(t)
	a, am, _ := f.member(t, swarm.Admin, time.Now(), tcpOnly)
	_, bm, _ := f.member(t, swarm.Volunteer, time.Now(), tcpOnly)
	h := startHost(t, Config{Swarm: f.Name, Listen: []string{}, Door: bm})
	connect(t, h, a)
	tomb, err := f.root.Revoke(f.Root, bm.Self(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	am.Roll().Bury(tomb)
	h = startHost(t, Config{Swarm: f.Name, Listen: []string{}, Door: bm, Log: slog.New(slog.DiscardHandler)})
	if err := h.Connect(within(t), a.Addrs()[0]); err == nil {
		t.Error("a revoked member's probe was admitted")
	}
}

// Whoever has no business in the swarm gets nothing but an end; the log of the node tells why.
func TestDoorRefuses(t *testing.T) {
	for _, listen := range []string{tcpOnly, quicOnly} {
		for _, tc := range []struct {
			name string
			come func(t *testing.T, f founded, a *Host, am *swarm.Membership) error
			why  string // in a's log
		}{
			{"wrong swarm", func(t *testing.T, f founded, a *Host, _ *swarm.Membership) error {
				h, _, _ := found(t).member(t, swarm.Admin, time.Now(), listen)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second) // QUIC's port does not even answer
				defer cancel()
				return h.Connect(ctx, a.Addrs()[0])
			}, "does not know the swarm's secret"},
			{"stranger who knows the secret", func(t *testing.T, f founded, a *Host, _ *swarm.Membership) error {
				other := found(t)
				other.Secret = f.Secret
				h, _, _ := other.member(t, swarm.Admin, time.Now(), listen)
				return h.Connect(within(t), a.Addrs()[0])
			}, "another swarm"},
			{"expired membership", func(t *testing.T, f founded, a *Host, _ *swarm.Membership) error {
				key := newKey(t)
				chain, err := f.root.Issue(f.Root, idOf(key), swarm.Admin, time.Now().Add(-swarm.Validity-time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				return come(t, f, key, chain, a)
			}, "expired"},
			{"replayed membership", func(t *testing.T, f founded, a *Host, am *swarm.Membership) error {
				return come(t, f, newKey(t), am.Own(), a)
			}, "shows the membership of"},
			{"membership signed by a volunteer", func(t *testing.T, f founded, a *Host, _ *swarm.Membership) error {
				volunteer, key := newKey(t), newKey(t)
				by, err := f.root.Issue(f.Root, idOf(volunteer), swarm.Volunteer, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				// A volunteer's own software would refuse; sign as the root of another swarm would and put it behind.
				own, err := swarm.Issuer{Key: volunteer}.Issue(idOf(volunteer), idOf(key), swarm.Admin, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				return come(t, f, key, append(by, own...), a)
			}, "another swarm"},
			{"shows a revoked membership of another", func(t *testing.T, f founded, a *Host, am *swarm.Membership) error {
				gone := newKey(t)
				chain, err := f.root.Issue(f.Root, idOf(gone), swarm.Volunteer, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				bury(t, f, am, idOf(gone))
				return come(t, f, newKey(t), chain, a)
			}, "shows the membership of"},
			{"expired invite", func(t *testing.T, f founded, a *Host, _ *swarm.Membership) error {
				_, err := Join(within(t), newKey(t), f.token(t, a, 1, time.Now().Add(-time.Hour)), slog.New(slog.DiscardHandler))
				return err
			}, "invite expired"},
			{"used-up invite", func(t *testing.T, f founded, a *Host, _ *swarm.Membership) error {
				tok := f.token(t, a, 1, time.Now().Add(time.Hour))
				if _, err := Join(within(t), newKey(t), tok, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
				_, err := Join(within(t), newKey(t), tok, slog.New(slog.DiscardHandler))
				return err
			}, "used up"},
			{"invite made before the revocation", func(t *testing.T, f founded, a *Host, am *swarm.Membership) error {
				tok, key := f.token(t, a, 5, time.Now().Add(time.Hour)), newKey(t)
				if _, err := Join(within(t), key, tok, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
				tomb, err := f.root.Revoke(f.Root, idOf(key), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				am.Roll().Bury(tomb)
				_, err = Join(within(t), key, tok, slog.New(slog.DiscardHandler))
				return err
			}, "needs a new one"},
		} {
			t.Run(tc.name+" "+listen, func(t *testing.T) {
				f := found(t)
				a, am, book := f.member(t, swarm.Admin, time.Now(), listen)
				err := tc.come(t, f, a, am)
				if err == nil {
					t.Error("it was admitted")
				} else if strings.Contains(strings.ReplaceAll(err.Error(), errShut.Error(), ""), tc.why) {
					t.Errorf("the other side learnt why: %v", err)
				}
				if !eventuallyTrue(func() bool { return strings.Contains(book.text(), tc.why) }) {
					t.Errorf("the log lacks %q:\n%s", tc.why, book.text())
				}
			})
		}
	}
}

func bury(t *testing.T, f founded, m *swarm.Membership, id record.PeerID) {
	t.Helper()
	tomb, err := f.root.Revoke(f.Root, id, time.Now())
	if err == nil {
		_, _, err = m.Roll().Bury(tomb)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Who was a member and is revoked while it is away is told so when it comes back, once it has shown whose it is; so is who
// was admitted by a member that was revoked.
func TestRevokedIsTold(t *testing.T) {
	for _, listen := range []string{tcpOnly, quicOnly} {
		t.Run(listen, func(t *testing.T) {
			f := found(t)
			a, am, book := f.member(t, swarm.Admin, time.Now(), listen)
			h, hm, log := f.member(t, swarm.Volunteer, time.Now(), listen)
			bury(t, f, am, h.ID())
			err := h.Connect(within(t), a.Addrs()[0])
			if err == nil || !strings.Contains(err.Error(), "no longer a member") || !strings.Contains(err.Error(), "ask an admin") {
				t.Errorf("the revoked node sees: %v", err)
			}
			if _, _, err := hm.Roll().Member(h.ID()); err == nil || !strings.Contains(err.Error(), string(f.Root)) {
				t.Errorf("its roll says: %v; want who revoked it", err)
			}
			if text := log.text(); !strings.Contains(text, "no longer a member") {
				t.Errorf("its log: %s", text)
			}
			if !eventuallyTrue(func() bool { return strings.Contains(book.text(), "was revoked") }) {
				t.Errorf("the member's log: %s", book.text())
			}
			if n := len(a.Peers()); n != 0 {
				t.Errorf("%d connections stand", n)
			}
		})
	}
}

// come dials a with a chain that a node of honest software would not show.
func come(t *testing.T, f founded, key ed25519.PrivateKey, chain swarm.Chain, a *Host) error {
	t.Helper()
	h := startHost(t, Config{Swarm: f.Name, Key: key, Listen: []string{}, Door: shameless{f, chain}, Log: slog.New(slog.DiscardHandler)})
	return h.Connect(within(t), a.Addrs()[0])
}

// shameless shows any chain and accepts any answer.
type shameless struct {
	founded
	chain swarm.Chain
}

func (s shameless) Secret() []byte            { return s.Identity.Secret }
func (s shameless) Admit(record.PeerID) error { return nil }
func (s shameless) Credential(record.PeerID) ([]byte, error) {
	return record.Encode(struct {
		Chain swarm.Chain `cbor:"1,keyasint"`
	}{s.chain})
}
func (s shameless) Judge(record.PeerID, []byte) ([]byte, error) { return nil, io.EOF }
func (s shameless) Welcome(record.PeerID, []byte) error         { return nil }

func eventuallyTrue(ok func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(10 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			return false
		}
	}
	return true
}

// A stranger with libp2p of its own gets no connection, no protocols, no addresses, not even the peer ID.
func TestStrangerLearnsNothing(t *testing.T) {
	f := found(t)
	a, _, _ := f.member(t, swarm.Admin, time.Now(), tcpOnly, quicOnly)
	s, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, addr := range a.Addrs() {
		info, err := peer.AddrInfoFromString(addr)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Connect(within(t), *info)
		if _, err2 := s.NewStream(context.Background(), info.ID, "/shoal/control/1"); err == nil && err2 == nil {
			t.Errorf("%s: the stranger has a stream", addr)
		}
		if err != nil && strings.Contains(err.Error(), "lab") {
			t.Errorf("the stranger learnt the swarm's name: %v", err)
		}
		if ps, _ := s.Peerstore().GetProtocols(info.ID); len(ps) > 0 {
			t.Errorf("the stranger learnt %v", ps)
		}
		if len(s.Peerstore().Addrs(info.ID)) > 1 {
			t.Errorf("the stranger learnt addresses %v", s.Peerstore().Addrs(info.ID))
		}
		s.Peerstore().ClearAddrs(info.ID)
	}
	if len(a.Peers()) != 0 {
		t.Errorf("the node has peers %+v", a.Peers())
	}
}

// Somebody who lures a member into a dial learns neither the swarm nor its membership.
func TestLuredMemberShowsNothing(t *testing.T) {
	f := found(t)
	b, _, book := f.member(t, swarm.Volunteer, time.Now(), tcpOnly)
	key := newKey(t)
	trap := startHost(t, Config{Key: key, Swarm: "lab", Listen: []string{tcpOnly}})
	if err := b.Connect(within(t), trap.Addrs()[0]); err == nil {
		t.Error("a member connected to a stranger")
	}
	if n := len(trap.Peers()); n != 0 {
		t.Errorf("%d peers at the stranger's", n)
	}
	if !strings.Contains(book.text(), "refused") && !strings.Contains(book.text(), "not of this swarm") {
		t.Logf("log of the member:\n%s", book.text())
	}
}

// The exchange itself, message by message, with what a hostile side could send.
func TestExchangeRefusesGarbage(t *testing.T) {
	f := found(t)
	_, m, _ := f.member(t, swarm.Admin, time.Now(), tcpOnly)
	d := &doorkeeper{door: m, refuse: func(record.PeerID, error) {}}
	for name, b := range map[string][]byte{
		"nothing": {}, "http": []byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100)),
		"wrong version": append([]byte{9}, make([]byte, 100)...),
		"huge":          append(append([]byte{doorVersion}, make([]byte, doorNonce)...), 0xff, 0xff),
		"short":         append(append([]byte{doorVersion}, make([]byte, doorNonce)...), 0, 3, 1, 2, 3),
		"noise":         append(append([]byte{doorVersion}, make([]byte, doorNonce)...), append([]byte{0, 40}, make([]byte, 40)...)...),
	} {
		out := &bytes.Buffer{}
		if err := d.receive(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), out}, "a", "b"); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes answered", name, err, out.Len())
		}
	}
}

// What was recorded of one exchange is worth nothing in another.
func TestExchangeIsNotReplayed(t *testing.T) {
	f := found(t)
	a, am, _ := f.member(t, swarm.Admin, time.Now(), tcpOnly)
	b, bm, _ := f.member(t, swarm.Volunteer, time.Now(), tcpOnly)
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	rec := &recorder{Conn: here}
	done := make(chan error, 1)
	go func() { done <- (&doorkeeper{door: am}).receive(there, a.ID(), b.ID()) }()
	if err := (&doorkeeper{door: bm}).enter(rec, b.ID(), a.ID()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	thief := idOf(newKey(t))
	err := (&doorkeeper{door: am}).receive(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(rec.sent.Bytes()), io.Discard}, a.ID(), thief)
	if err == nil {
		t.Error("a recorded credential was accepted from another identity")
	}
}

type recorder struct {
	net.Conn
	sent bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { r.sent.Write(p); return r.Conn.Write(p) }

func FuzzDoorReceive(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	root := swarm.Issuer{Key: key}
	chain, err := root.Issue(idOf(key), idOf(key), swarm.Admin, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	id := swarm.Identity{Name: "lab", Root: idOf(key), Secret: make([]byte, swarm.SecretSize)}
	m, err := swarm.NewMembership(id, key, chain, &root, swarm.NewRoll(id.Root, time.Now), &uses{of: map[string][]record.PeerID{}}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	d := &doorkeeper{door: m}
	rec := &bytes.Buffer{}
	d.enter(struct {
		io.Reader
		io.Writer
	}{&bytes.Buffer{}, rec}, idOf(key), "b")
	f.Add(rec.Bytes())
	f.Add([]byte{doorVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		d.receive(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), io.Discard}, "b", idOf(key))
	})
}
