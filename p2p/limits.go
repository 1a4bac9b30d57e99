package p2p

import (
	"net/netip"
	"time"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/pbnjay/memory"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	// MaxPayload bounds one control message, bytes: a record, its signature and an envelope around them.
	MaxPayload = record.MaxRecord + 16<<10
	// MaxTopic bounds a topic's name, bytes.
	MaxTopic = 256
	// MaxGossip bounds one gossip message, bytes. Every byte is sent about six times by every node.
	MaxGossip = 8 << 10

	// PingEvery is the heartbeat's interval.
	PingEvery = time.Second
	// SilenceLimit is how long a peer may be silent before it is reported down.
	SilenceLimit = 5 * time.Second

	helloTimeout = 10 * time.Second // from a stream's opening to its hello
	frameTimeout = 60 * time.Second // a live peer pings every second; a frame that takes longer is a slow-loris
	writeTimeout = 10 * time.Second // of one batch of control frames; as long as yamux waits

	maxGossipRPC    = 256 << 10 // several messages and control entries in one RPC
	maxGossipTopics = 64        // subscriptions followed per peer

	dialTimeout = 15 * time.Second
	connGrace   = 30 * time.Second // a new connection is not trimmed before
)

// peerMemory is what the windows of one peer's streams may hold. libp2p's default lets windows of fast links stop
// growing without a word.
const peerMemory = 256 << 20 // bytes

// resources builds libp2p's resource manager: its scaled defaults with more memory for bulk, and connection limits
// that admit a laboratory behind one NAT.
func resources() (network.ResourceManager, error) {
	base := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&base)
	raised := rcmgr.PartialLimitConfig{
		System:              rcmgr.ResourceLimits{Memory: rcmgr.LimitVal64(min(int64(max(memory.TotalMemory(), 1<<30)/4), 8<<30))},
		PeerDefault:         rcmgr.ResourceLimits{Memory: peerMemory, Conns: 16, ConnsInbound: 8, ConnsOutbound: 8},
		ProtocolDefault:     rcmgr.ResourceLimits{Memory: 1 << 30, Streams: 4096, StreamsInbound: 2048, StreamsOutbound: 4096},
		ProtocolPeerDefault: rcmgr.ResourceLimits{Memory: peerMemory, Streams: 192, StreamsInbound: 64, StreamsOutbound: 128},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{
			controlProtocol: {Memory: 16 << 20, Streams: 16, StreamsInbound: 8, StreamsOutbound: 8},
		},
	}
	limiter := rcmgr.NewFixedLimiter(raised.Build(base.AutoScale()))
	return rcmgr.NewResourceManager(limiter,
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: 64}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: 64}, {PrefixLength: 48, ConnCount: 256}}),
		rcmgr.WithConnRateLimiters(connRates()))
}

// connRates bounds new connections per address; loopback is free, since tests and several nodes on one machine use it.
func connRates() *rate.Limiter {
	free := rate.Limit{}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Limit: free},
			{Prefix: netip.MustParsePrefix("::1/128"), Limit: free},
		},
		GlobalLimit: free,
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: 4, Burst: 64}}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: rate.Limit{RPS: 4, Burst: 64}}},
			GracePeriod:      time.Minute,
		},
	}
}
