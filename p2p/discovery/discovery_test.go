package discovery

import (
	"crypto/ed25519"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startHost(t *testing.T, cfg p2p.Config) *p2p.Host {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	}
	h, err := p2p.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func start(t *testing.T, h *p2p.Host, cfg Config) *Discovery {
	t.Helper()
	d, err := Start(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// meets waits until h sees all of peers up.
func meets(t *testing.T, h *p2p.Host, peers ...*p2p.Host) {
	t.Helper()
	up := make(chan record.PeerID, 100)
	defer h.Watch(func(id record.PeerID, isUp bool) {
		if isUp {
			up <- id
		}
	})()
	missing := map[record.PeerID]bool{}
	for _, p := range peers {
		missing[p.ID()] = true
	}
	limit := time.After(20 * time.Second)
	for len(missing) > 0 {
		select {
		case id := <-up:
			delete(missing, id)
		case <-limit:
			t.Fatalf("%d peers not met", len(missing))
		}
	}
}

// until polls for what nothing tells of.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestPeersTellEachOther(t *testing.T) {
	a, b, c := startHost(t, p2p.Config{}), startHost(t, p2p.Config{}), startHost(t, p2p.Config{})
	boot := Config{Bootstrap: a.Addrs()}
	start(t, a, boot) // its own address in the list does no harm
	start(t, b, boot)
	start(t, c, boot)
	meets(t, b, a, c)
	meets(t, c, a, b)
}

func TestBootstrapComesLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)
	l.Close()
	key := startHost(t, p2p.Config{}).Key() // any identity
	b := startHost(t, p2p.Config{})
	d := start(t, b, Config{Bootstrap: []string{addr + "/p2p/" + string(record.IDOf(key.Public().(ed25519.PublicKey)))}})
	tried := make(chan Try)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if try := d.Tried()[0]; try.Tries > 0 {
				tried <- try
				return
			}
		}
	}()
	if try := <-tried; !strings.Contains(try.Err, "refused") || try.Source != FromBootstrap || try.Up {
		t.Errorf("tried: %+v", try)
	}
	a := startHost(t, p2p.Config{Key: key, Listen: []string{addr}})
	meets(t, b, a)
}

func TestBadBootstrap(t *testing.T) {
	h := startHost(t, p2p.Config{})
	if _, err := Start(h, Config{Bootstrap: []string{"example.org:4481"}}); err == nil || !strings.Contains(err.Error(), "bootstrap") {
		t.Error(err)
	}
}

type memCache struct {
	mu    sync.Mutex
	peers []Peer
}

func (c *memCache) Load() ([]Peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers, nil
}

func (c *memCache) Save(p []Peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers = p
	return nil
}

func TestCache(t *testing.T) {
	a, b := startHost(t, p2p.Config{}), startHost(t, p2p.Config{})
	cache := &memCache{}
	d := start(t, b, Config{Bootstrap: a.Addrs(), Cache: cache})
	until(t, "the peer is noted", func() bool { try := d.Tried(); return len(try) == 1 && try[0].Up })
	d.Close()
	if len(cache.peers) != 1 || cache.peers[0].ID != a.ID() {
		t.Fatalf("cache: %v", cache.peers)
	}
	b.Close()
	c := startHost(t, p2p.Config{})
	start(t, c, Config{Cache: cache})
	meets(t, c, a)
}

func TestReconnects(t *testing.T) {
	a, b := startHost(t, p2p.Config{}), startHost(t, p2p.Config{})
	start(t, b, Config{Bootstrap: a.Addrs()})
	meets(t, b, a)
	down := make(chan bool, 10)
	defer b.Watch(func(_ record.PeerID, up bool) { down <- up })()
	for _, want := range []bool{true, false, true} {
		if got := <-down; got != want {
			t.Fatalf("up %v, want %v", got, want)
		}
		if want {
			b.Forget(a.ID())
		}
	}
	meets(t, b, a)
}

func TestLAN(t *testing.T) {
	if !multicast() {
		t.Skip("no network interface with multicast on this machine")
	}
	name := fmt.Sprintf("test-%d", time.Now().UnixNano())
	any := []string{"/ip4/0.0.0.0/tcp/0"}
	a := startHost(t, p2p.Config{Swarm: name, Listen: any})
	b := startHost(t, p2p.Config{Swarm: name, Listen: any})
	began := time.Now()
	start(t, a, Config{LAN: true})
	start(t, b, Config{LAN: true})
	meets(t, a, b)
	t.Logf("met after %v", time.Since(began))
}

func multicast() bool {
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		if i.Flags&(net.FlagUp|net.FlagMulticast) == net.FlagUp|net.FlagMulticast && i.Flags&net.FlagLoopback == 0 {
			return true
		}
	}
	return false
}

func TestDecodeTold(t *testing.T) {
	id := record.IDOf(make([]byte, 32))
	good := "/ip4/192.0.2.1/tcp/4481/p2p/" + string(id)
	b, err := record.Encode(toldPeers{Peers: []toldPeer{
		{ID: id, Addrs: []string{good, "nonsense", "/ip4/192.0.2.1/tcp/4481", good}},
		{ID: "nobody", Addrs: []string{good}},
		{ID: record.IDOf(append(make([]byte, 31), 1)), Addrs: []string{good}}, // of somebody else
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeTold(b)
	if err != nil || len(got) != 1 || got[0].ID != id || got[0].Addrs[0] != good {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := decodeTold(make([]byte, maxToldBytes+1)); err == nil {
		t.Error("a message above the limit was read")
	}
}

func FuzzDecodeTold(f *testing.F) {
	id := record.IDOf(make([]byte, 32))
	b, _ := record.Encode(toldPeers{Peers: []toldPeer{{ID: id, Addrs: []string{"/ip4/192.0.2.1/tcp/4481/p2p/" + string(id)}}}})
	f.Add(b)
	f.Add([]byte{0xa1, 0x01, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		peers, err := decodeTold(b)
		if err == nil && len(peers) > maxTold {
			t.Errorf("%d peers", len(peers))
		}
		for _, p := range peers {
			if len(p.Addrs) == 0 || len(p.Addrs) > maxAddrs {
				t.Errorf("%d addresses", len(p.Addrs))
			}
		}
	})
}
