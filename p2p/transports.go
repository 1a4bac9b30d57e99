package p2p

import (
	"errors"
	"net/netip"

	libp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// newTLS, newNoise and the door's TLS all pass the meter.
func (h *Host) newTLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (metered, error) {
	t, err := pacedBy(tls.New)(id, key, muxers)
	return metered{t, h.meter}, err
}

func (h *Host) newNoise(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (metered, error) {
	t, err := pacedBy(noise.New)(id, key, muxers)
	return metered{t, h.meter}, err
}

// transports are the ways to connect. In a private swarm each begins with the exchange at its door, and there is no
// other security protocol to fall back to.
func (h *Host) transports() libp2p.Option {
	if h.cfg.Door == nil {
		return libp2p.ChainOptions(
			libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport), h.quicSockets(),
			libp2p.Security(tls.ID, h.newTLS), libp2p.Security(noise.ID, h.newNoise),
			libp2p.Security(string(h.rawName()), h.newRawDoor),
		)
	}
	d := &doorkeeper{door: h.cfg.Door, plain: h.newTLS, refuse: h.refused, self: h.id, probes: h.probeSockets}
	return libp2p.ChainOptions(
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(d.newQUIC), h.quicSockets(),
		libp2p.Security(securityName(h.cfg.Door), d.newTLS), libp2p.Security(tls.ID, d.newShut),
		libp2p.Security(string(h.rawName()), h.newRawDoor),
	)
}

// refused tells the log why a connection ended before it began. The other side is told nothing.
func (h *Host) refused(id record.PeerID, why error) {
	switch {
	case errors.Is(why, swarm.ErrGuest):
		h.cfg.Log.Info("a node joined the swarm with an invite", "peer", id)
	case errors.Is(why, errLeft):
		h.cfg.Log.Debug("connection ended at the swarm's door", "peer", id, "why", why)
	case h.cfg.Door != nil:
		h.cfg.Log.Warn("connection refused at the swarm's door", "peer", id, "why", why)
	default:
		h.cfg.Log.Debug("connection refused by the swarm's gate", "peer", id, "why", why)
	}
}

// unknocked tells the log of a dial over QUIC that was not answered.
func (h *Host) unknocked(from netip.AddrPort) {
	h.cfg.Log.Warn("connection refused at the swarm's door", "address", from.String(),
		"why", "a stranger, who does not know the swarm's secret, or whose clock is off by more than ten minutes")
}
