package p2p

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Config says how a node appears on the network. The zero value is a node with a throw-away identity that listens
// on any port of all interfaces.
type Config struct {
	Swarm   string             // name of the swarm; default swarm.DefaultName
	KeyFile string             // identity, made when absent; see LoadIdentity
	Key     ed25519.PrivateKey // the identity when KeyFile is empty; nil: a new one that is forgotten at the end
	Listen  []string           // multiaddrs, port 0 allowed; nil: any port of TCP and QUIC on IPv4; empty: do not listen
	Gate    swarm.Gate         // who may connect; nil: the Door, else swarm.Open
	Door    Door               // of a private swarm; nil: it is open
	Caps    Caps               // of bandwidth; see SetCaps

	Internet *Internet // NAT traversal, relays and DHT; nil: none of it

	LowConns, HighConns int // above high, unprotected connections are closed down to low; default 32, 64

	Log *slog.Logger // default slog.Default()
}

// Host is this node on the network.
type Host struct {
	host    host.Host
	cfg     Config
	key     ed25519.PrivateKey
	id      record.PeerID
	boot    uint64
	start   time.Time
	control *Control
	gossip  *Gossip
	meter   *meter
	traffic traffic
	sockets sockets  // of QUIC
	routing *Routing // nil without Config.Internet, as reach
	reach   *reach
	clocks  clocks
	nets    nets
	search  relaySearch
	bulk    bulk
	raws    chan struct{} // a token for each connection for bulk that has not shown its ticket
	ready   chan struct{} // closed when routing is set

	ctx  context.Context // ends when Close begins
	stop context.CancelFunc
	wg   sync.WaitGroup // goroutines and stream handlers

	mu       sync.Mutex // guards the rest
	closed   bool
	lives    map[record.PeerID]*life
	presence presence
	gone     gone
	clones   swarm.Clones
	cloned   map[record.PeerID]bool
	watchers []*watcher
}

// New starts a node. It listens when it returns; it connects to nobody by itself.
func New(cfg Config) (*Host, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, key: cfg.Key, boot: newBoot(), start: time.Now(),
		id:       record.IDOf(cfg.Key.Public().(ed25519.PublicKey)),
		lives:    map[record.PeerID]*life{},
		presence: presence{peers: map[record.PeerID]*present{}},
		cloned:   map[record.PeerID]bool{},
		ready:    make(chan struct{}),
		bulk:     bulk{handlers: map[string]func(*Stream){}, tickets: map[[ticketLen]byte]chan net.Conn{}, barred: map[record.PeerID]time.Time{}},
		raws:     make(chan struct{}, maxRaw),
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.control = newControl(h)
	h.meter = newMeter(cfg.Caps, h.ctx.Done())
	if err := checkPorts(cfg.Listen); err != nil {
		return nil, err
	}
	if cfg.Internet != nil {
		h.reach = newReach(h)
	}
	if h.host, err = h.libp2p(); err != nil {
		return nil, fmt.Errorf("start the network: %w", err)
	}
	if h.gossip, err = newGossip(h); err == nil {
		err = h.openInternet()
	}
	if err != nil {
		h.stop()
		err = errors.Join(fmt.Errorf("start the network: %w", err), h.host.Close(), h.sockets.close())
		h.wg.Wait()
		return nil, err
	}
	h.Handle(controlProtocol, h.control.serve)
	h.host.Network().Notify(&network.NotifyBundle{ConnectedF: h.connected, DisconnectedF: h.disconnected})
	for _, p := range h.host.Network().Peers() { // who was quicker than Notify
		h.control.wanted(record.PeerID(p.String()))
	}
	h.compareClocks()
	h.wg.Go(h.heartbeat)
	return h, nil
}

// checkPorts refuses TCP ports that another process listens on. libp2p would share such a port silently (it sets
// SO_REUSEPORT for hole punching), and connections would reach either node.
func checkPorts(listen []string) error {
	for _, text := range listen {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return fmt.Errorf("listen address %q: %w; write it like /ip4/0.0.0.0/tcp/4481", text, err)
		}
		netw, addr, err := manet.DialArgs(a)
		if err != nil || !strings.HasPrefix(netw, "tcp") {
			continue
		}
		l, err := net.Listen(netw, addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("listen on %s: another program uses this port (a second node?); choose another with --listen", text)
		} else if err == nil {
			l.Close()
		}
	}
	return nil
}

func (cfg Config) complete() (Config, error) {
	cfg.Swarm = cmp.Or(cfg.Swarm, swarm.DefaultName)
	cfg.LowConns, cfg.HighConns = cmp.Or(cfg.LowConns, 32), cmp.Or(cfg.HighConns, 64)
	if cfg.Gate == nil && cfg.Door != nil {
		cfg.Gate = cfg.Door
	} else if cfg.Gate == nil {
		cfg.Gate = swarm.Open{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Listen == nil {
		cfg.Listen = []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"}
	}
	if cfg.LowConns < 0 || cfg.HighConns < cfg.LowConns {
		return cfg, fmt.Errorf("connection limits %d/%d: low must not exceed high", cfg.LowConns, cfg.HighConns)
	}
	err := errors.Join(swarm.CheckName(cfg.Swarm), cfg.Caps.check())
	switch {
	case err != nil:
	case cfg.KeyFile != "":
		cfg.Key, err = LoadIdentity(cfg.KeyFile)
	case cfg.Key == nil:
		_, cfg.Key, err = ed25519.GenerateKey(rand.Reader)
	}
	return cfg, err
}

// libp2p builds the host underneath.
func (h *Host) libp2p() (host.Host, error) {
	key, err := toLibp2p(h.key)
	if err != nil {
		return nil, err
	}
	internet, err := h.internetOptions()
	if err != nil {
		return nil, err
	}
	limits, err := resources()
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(h.cfg.LowConns, h.cfg.HighConns, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		return nil, err
	}
	listen := libp2p.ListenAddrStrings(h.cfg.Listen...)
	if len(h.cfg.Listen) == 0 {
		listen = libp2p.NoListenAddrs
	}
	return libp2p.New(append(internet,
		libp2p.Identity(key), listen,
		h.transports(),
		libp2p.Muxer(yamux.ID, newMuxer(h.meter)),
		libp2p.ResourceManager(limits), libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(&gater{gate: h.cfg.Gate, door: h.cfg.Door != nil, refuse: h.refused}),
		libp2p.DialRanker(rankDials),
		libp2p.DisableMetrics(), libp2p.BandwidthReporter(&h.traffic),
		libp2p.UserAgent("shoal"),
	)...)
}

// openInternet starts what Config.Internet asks for.
func (h *Host) openInternet() error {
	if h.cfg.Internet == nil {
		return nil
	}
	defer close(h.ready)
	var err error
	if h.routing, err = newRouting(h); err != nil {
		return err
	}
	if err := h.reach.start(); err != nil {
		return errors.Join(err, h.routing.dht.Close())
	}
	h.wg.Go((&puncher{h: h, peers: map[peer.ID]*punching{}}).run)
	return nil
}

// ID is this node's peer ID.
func (h *Host) ID() record.PeerID { return h.id }

// Boot is the random id of this start of the node.
func (h *Host) Boot() uint64 { return h.boot }

// Key signs records in this node's name.
func (h *Host) Key() ed25519.PrivateKey { return h.key }

// Swarm is the name of the swarm this node is in.
func (h *Host) Swarm() string { return h.cfg.Swarm }

// Log is where this node logs.
func (h *Host) Log() *slog.Logger { return h.cfg.Log }

// Control is the ordered messages between peers.
func (h *Host) Control() *Control { return h.control }

// Routing is the swarm's DHT; nil without Config.Internet.
func (h *Host) Routing() *Routing { return h.routing }

// Gossip is the swarm's broadcast.
func (h *Host) Gossip() *Gossip { return h.gossip }

// Addrs are this node's addresses, each ending in /p2p/<id>.
func (h *Host) Addrs() []string {
	var out []string
	for _, a := range h.host.Addrs() {
		out = append(out, withID(a, h.host.ID()))
	}
	return out
}

// Handle runs fn, on a goroutine of its own, for every stream that a peer opens for proto. fn owns the stream. A protocol
// has one handler at a time. fn must return soon after the stream fails, because Close waits for it.
func (h *Host) Handle(proto string, fn func(*Stream)) {
	h.host.SetStreamHandler(protocol.ID(proto), func(s network.Stream) {
		if !h.begin() {
			s.Reset()
			return
		}
		defer h.wg.Done()
		fn(h.wrap(s))
	})
}

// Unhandle refuses further streams for proto.
func (h *Host) Unhandle(proto string) { h.host.RemoveStreamHandler(protocol.ID(proto)) }

// begin counts a handler unless the host is closing.
func (h *Host) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.wg.Add(1)
	}
	return !h.closed
}

// Open opens a stream to a peer, connecting first when an address is known. See Stream for what it promises.
func (h *Host) Open(ctx context.Context, to record.PeerID, proto string) (*Stream, error) {
	p, err := decodeID(to)
	if err != nil {
		return nil, err
	}
	s, err := h.host.NewStream(throughRelays(ctx), p, protocol.ID(proto))
	if err != nil {
		return nil, fmt.Errorf("open %s to %s: %w", proto, to, plainDialError(err))
	}
	return h.wrap(s), nil
}

func (h *Host) wrap(s network.Stream) *Stream {
	id := record.PeerID(s.Conn().RemotePeer().String())
	l := h.life(id)
	if s.Conn().IsClosed() {
		h.left(id) // nobody else will: its end was reported before life made a record
	}
	bulk := h.meter
	if s.Protocol() == controlProtocol {
		bulk = nil
	}
	return &Stream{s: s, carrier: s, proto: string(s.Protocol()), peer: id, life: l, bulk: bulk}
}

// identified waits until libp2p's identify protocol has told the peer's addresses, so that whoever sees a peer come up also
// knows how to reach it. An answer that does not come is not worth more than a moment.
func (h *Host) identified(s *Stream) {
	ids, ok := h.host.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, helloTimeout/2)
	defer cancel()
	select {
	case <-ids.IDService().IdentifyWait(s.s.Conn()):
	case <-ctx.Done():
	}
}

// Protect keeps the connection manager from closing connections to id until every tag is gone again.
func (h *Host) Protect(id record.PeerID, tag string) {
	if p, err := decodeID(id); err == nil {
		h.host.ConnManager().Protect(p, tag)
	}
}

// Unprotect takes one tag back.
func (h *Host) Unprotect(id record.PeerID, tag string) {
	if p, err := decodeID(id); err == nil {
		h.host.ConnManager().Unprotect(p, tag)
	}
}

// PeerInfo describes a connected peer.
type PeerInfo struct {
	ID      record.PeerID
	Boot    uint64        // of its present start; 0 before its hello
	Addrs   []string      // remote addresses of the connections, without /p2p/
	Latency time.Duration // smoothed round trip of heartbeats; 0 unknown
	Relayed bool          // every connection goes through a relay
	Inbound bool          // the peer dialed us
	Up      bool          // see Watch
}

// Peers lists the connected peers, ordered by ID.
func (h *Host) Peers() []PeerInfo {
	var out []PeerInfo
	for _, p := range h.host.Network().Peers() {
		if conns := h.host.Network().ConnsToPeer(p); len(conns) > 0 {
			out = append(out, h.describe(p, conns))
		}
	}
	slices.SortFunc(out, func(a, b PeerInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (h *Host) describe(p peer.ID, conns []network.Conn) PeerInfo {
	info := PeerInfo{ID: record.PeerID(p.String()), Relayed: true, Inbound: conns[0].Stat().Direction == network.DirInbound}
	conns = slices.SortedStableFunc(slices.Values(conns), func(a, b network.Conn) int { // direct ones first
		return cmp.Compare(len(a.RemoteMultiaddr()), len(b.RemoteMultiaddr()))
	})
	for _, c := range conns {
		info.Addrs = append(info.Addrs, c.RemoteMultiaddr().String())
		info.Relayed = info.Relayed && relayed(c.RemoteMultiaddr())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.lives[info.ID]; l != nil {
		info.Latency = time.Duration(l.rtt.Load())
	}
	info.Boot = h.presence.state(info.ID)
	info.Up = info.Boot != 0
	return info
}

// Close ends all connections and waits for every goroutine and handler of the host.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	var err error
	if h.routing != nil {
		err = h.routing.dht.Close()
	}
	err = errors.Join(err, h.host.Close(), h.sockets.close())
	h.wg.Wait()
	return err
}

// now is the time since the host's start; it never goes back.
func (h *Host) now() time.Duration { return time.Since(h.start) }
