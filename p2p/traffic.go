package p2p

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Moved is how many bytes of one kind a node has sent and received since its start, before encryption.
type Moved struct{ Up, Down uint64 }

// Traffic tells what the bytes of this node's streams were for: control, blocks, xfer, gossip, dht, relay, identify,
// other.
func (h *Host) Traffic() map[string]Moved {
	out := map[string]Moved{}
	h.traffic.kinds.Range(func(k, v any) bool {
		c := v.(*counter)
		out[k.(string)] = Moved{c.up.Load(), c.down.Load()}
		return true
	})
	return out
}

// traffic counts for libp2p, as its metrics.Reporter. Kinds are few, protocols may be many.
type traffic struct {
	kinds  sync.Map // kind → *counter
	protos sync.Map // protocol.ID → *counter of its kind
	known  atomic.Int64
}

type counter struct{ up, down atomic.Uint64 }

// maxProtos bounds the protocols remembered; names come from peers, too.
const maxProtos = 256

func (t *traffic) of(p protocol.ID) *counter {
	if c, ok := t.protos.Load(p); ok {
		return c.(*counter)
	}
	c, _ := t.kinds.LoadOrStore(kindOf(string(p)), &counter{})
	if t.known.Add(1) <= maxProtos {
		t.protos.Store(p, c)
	}
	return c.(*counter)
}

func kindOf(proto string) string {
	for _, k := range []struct{ prefix, kind string }{
		{"/shoal/control/", "control"}, {"/shoal/blocks/", "blocks"}, {"/shoal/xfer/", "xfer"},
		{"/meshsub/", "gossip"}, {"/floodsub/", "gossip"}, {"/libp2p/circuit/", "relay"}, {"/ipfs/id/", "identify"},
	} {
		if strings.HasPrefix(proto, k.prefix) {
			return k.kind
		}
	}
	if strings.Contains(proto, "/kad/") {
		return "dht"
	}
	return "other"
}

func (t *traffic) LogSentMessageStream(n int64, p protocol.ID, _ peer.ID) { t.of(p).up.Add(uint64(n)) }
func (t *traffic) LogRecvMessageStream(n int64, p protocol.ID, _ peer.ID) {
	t.of(p).down.Add(uint64(n))
}

// What libp2p could ask besides, it does not.
func (t *traffic) LogSentMessage(int64)                                  {}
func (t *traffic) LogRecvMessage(int64)                                  {}
func (t *traffic) GetBandwidthForPeer(peer.ID) (s metrics.Stats)         { return }
func (t *traffic) GetBandwidthForProtocol(protocol.ID) metrics.Stats     { return metrics.Stats{} }
func (t *traffic) GetBandwidthTotals() (s metrics.Stats)                 { return }
func (t *traffic) GetBandwidthByPeer() map[peer.ID]metrics.Stats         { return nil }
func (t *traffic) GetBandwidthByProtocol() map[protocol.ID]metrics.Stats { return nil }
func (t *traffic) Reset()                                                {}
func (t *traffic) TrimIdle(time.Time)                                    {}

var _ metrics.Reporter = (*traffic)(nil)
