package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestMain(m *testing.M) {
	if os.Getenv("SHOAL_TEST_PEER") != "" {
		bePeer()
		return
	}
	goleak.VerifyTestMain(m)
}

// bePeer is a node in a process of its own, which a test can stop.
func bePeer() {
	h, err := New(Config{Listen: loopback})
	if err != nil {
		panic(err)
	}
	defer h.Close()
	fmt.Println(h.Addrs()[0])
	io.Copy(io.Discard, os.Stdin) // until the test ends
}

var loopback = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}

func startHost(t *testing.T, cfg Config) *Host {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = loopback
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, from, to *Host) {
	t.Helper()
	if err := from.Connect(within(t), to.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
}

// change is what a watcher is told.
type change struct {
	id record.PeerID
	up bool
}

func watch(t *testing.T, h *Host) <-chan change {
	c := make(chan change, 100)
	t.Cleanup(h.Watch(func(id record.PeerID, up bool) { c <- change{id, up} }))
	return c
}

func expect[T comparable](t *testing.T, c <-chan T, want T) {
	t.Helper()
	select {
	case got := <-c:
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing came, want %v", want)
	}
}

func TestConnectWatchClose(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	seen := watch(t, a)
	connect(t, b, a)
	expect(t, seen, change{b.ID(), true})
	late := watch(t, a)
	expect(t, late, change{b.ID(), true})
	ps := a.Peers()
	if len(ps) != 1 || ps[0].ID != b.ID() || ps[0].Boot != b.Boot() || !ps[0].Up || !ps[0].Inbound || ps[0].Relayed {
		t.Errorf("peers: %+v", ps)
	}
	if !strings.Contains(ps[0].Addrs[0], "/tcp/") {
		t.Errorf("connected over %s, want TCP first", ps[0].Addrs[0])
	}
	b.Close()
	expect(t, seen, change{b.ID(), false})
}

func TestStream(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	b.Handle("/test/echo/1", func(s *Stream) {
		defer s.Close()
		if s.Peer() != a.ID() || s.Protocol() != "/test/echo/1" {
			t.Errorf("stream of %s for %s", s.Peer(), s.Protocol())
		}
		io.Copy(s, s)
	})
	connect(t, a, b)
	s, err := a.Open(within(t), b.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("shoal"), 200_000)
	go func() {
		s.Write(sent)
		s.CloseWrite()
	}()
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(sent), err)
	}
	s.Close()
}

func TestOpenUnknown(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	if _, err := a.Open(within(t), b.ID(), "/test/none/1"); err == nil {
		t.Error("opened a stream to a peer without address")
	}
	if _, err := a.Open(within(t), "nonsense", "/test/none/1"); !errors.Is(err, record.ErrBad) {
		t.Errorf("bad peer ID: %v", err)
	}
}

func TestConnectErrors(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	wrong := strings.Replace(b.Addrs()[0], string(b.ID()), string(startHost(t, Config{}).ID()), 1)
	for _, tc := range []struct{ name, addr, want string }{
		{"text", "over there", "write it like"},
		{"no id", "/ip4/127.0.0.1/tcp/1", "/p2p/"},
		{"self", a.Addrs()[0], "own identity"},
		{"nobody", "/ip4/127.0.0.1/tcp/1/p2p/" + string(b.ID()), "refused"},
		{"somebody else", wrong, "identity changed"},
		{"huge", "/ip4/127.0.0.1/tcp/1/" + strings.Repeat("x", 1<<20), "limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := a.Connect(within(t), tc.addr); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	a := startHost(t, Config{})
	taken := strings.Split(a.Addrs()[0], "/p2p/")[0]
	if h, err := New(Config{Listen: []string{taken}}); err == nil {
		h.Close()
		t.Error("two nodes listen on one port")
	} else if !strings.Contains(err.Error(), "--listen") {
		t.Error(err)
	}
}

type closedGate struct{ only record.PeerID }

func (g closedGate) Admit(id record.PeerID) error {
	if id != g.only {
		return errors.New("not a member")
	}
	return nil
}

func TestGate(t *testing.T) {
	friend, stranger := startHost(t, Config{}), startHost(t, Config{})
	a := startHost(t, Config{Gate: closedGate{friend.ID()}})
	seen := watch(t, a)
	if err := stranger.Connect(within(t), a.Addrs()[0]); err == nil {
		// TLS ends before the gate speaks: the dialer may see a connection that closes at once.
		down := watch(t, stranger)
		select {
		case c := <-down:
			t.Errorf("the stranger was told %v", c)
		case <-time.After(300 * time.Millisecond):
		}
	}
	if err := a.Dial(within(t), stranger.ID()); err == nil {
		t.Error("dialed a stranger")
	}
	connect(t, friend, a)
	expect(t, seen, change{friend.ID(), true})
}

func TestOtherSwarm(t *testing.T) {
	a, b := startHost(t, Config{Swarm: "one"}), startHost(t, Config{Swarm: "two"})
	c := startHost(t, Config{Swarm: "one"})
	seen := watch(t, a)
	connect(t, b, a)
	connect(t, c, a)
	expect(t, seen, change{c.ID(), true}) // and nothing of b before
}

func TestRestartIsSeen(t *testing.T) {
	a := startHost(t, Config{})
	file := filepath.Join(t.TempDir(), "identity.key")
	seen := watch(t, a)
	var id record.PeerID
	for i := range 2 {
		b, err := New(Config{KeyFile: file, Listen: loopback})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && b.ID() != id {
			t.Error("another identity after a restart")
		}
		id = b.ID()
		connect(t, b, a)
		expect(t, seen, change{id, true})
		b.Close()
		expect(t, seen, change{id, false})
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("identity file: %v %v", st.Mode(), err)
	}
}

func TestIdentityErrors(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if _, err := LoadIdentity(good); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(good)
	for _, tc := range []struct {
		name string
		data []byte
		mode os.FileMode
		want string
	}{
		{"empty", nil, 0o600, "restore it"},
		{"garbage", []byte("garbage"), 0o600, "restore it"},
		{"cut", data[:20], 0o600, "restore it"},
		{"huge", make([]byte, maxKeyFile+1), 0o600, "not a key file"},
		{"readable by others", data, 0o644, "chmod 600"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(tc.name, " ", "-"))
			if err := os.WriteFile(path, tc.data, tc.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadIdentity(path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestIdentityRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "identity.key")
	var wg sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		wg.Go(func() {
			k, err := LoadIdentity(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = fmt.Sprint(k)
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Error("two identities in one home")
		}
	}
}

func TestFrozenPeer(t *testing.T) {
	t.Parallel() // it waits for the silence limit
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SHOAL_TEST_PEER=1")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	defer cmd.Process.Signal(syscall.SIGCONT)
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	a := startHost(t, Config{})
	seen := watch(t, a)
	addr = strings.TrimSpace(addr)
	if err := a.Connect(within(t), addr); err != nil {
		t.Fatal(err)
	}
	id, _ := SplitAddr(addr)
	expect(t, seen, change{id, true})
	cmd.Process.Signal(syscall.SIGSTOP)
	began := time.Now()
	expect(t, seen, change{id, false})
	if took := time.Since(began); took < SilenceLimit-2*PingEvery || took > SilenceLimit+3*time.Second {
		t.Errorf("noticed after %v", took)
	}
	cmd.Process.Signal(syscall.SIGCONT)
	expect(t, seen, change{id, true})
}

func TestClonesAreNamed(t *testing.T) {
	t.Parallel()
	a := startHost(t, Config{})
	one := startHost(t, Config{})
	two := startHost(t, Config{Key: one.Key()})
	connect(t, one, a)
	connect(t, two, a)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for _, h := range []*Host{a, one, two} {
		for !slices.Equal(h.Clones(), []record.PeerID{one.ID()}) {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("%s knows of clones %v", h.ID(), h.Clones())
			}
		}
	}
}

// A node that meets many others and loses them keeps nothing of them.
func TestNothingIsLeftOfThoseWhoLeave(t *testing.T) {
	a := startHost(t, Config{})
	seen := watch(t, a)
	for range 10 {
		b := startHost(t, Config{})
		connect(t, b, a)
		expect(t, seen, change{b.ID(), true})
		if err := a.Control().Send(b.ID(), "t", []byte("x")); err != nil {
			t.Fatal(err)
		}
		b.Close()
		expect(t, seen, change{b.ID(), false})
	}
	left := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.control.mu.Lock()
		defer a.control.mu.Unlock()
		return len(a.lives) + len(a.presence.peers) + len(a.control.links) + len(a.control.in)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); left() > 0; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d records left: %d lives, %d links", left(), len(a.lives), len(a.control.links))
		}
	}
}
