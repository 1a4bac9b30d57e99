package discovery

import (
	"context"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// told is the message in which connected peers tell each other of others.
type toldPeers struct {
	Peers []toldPeer `cbor:"1,keyasint"`
}

type toldPeer struct {
	ID    record.PeerID `cbor:"1,keyasint"`
	Addrs []string      `cbor:"2,keyasint"`
}

// maxToldBytes bounds the message: 64 peers with 8 addresses of 100 bytes.
const maxToldBytes = 64 << 10

// introduce tells a new peer of the connected ones, and them of it. The caller holds mu.
func (d *Discovery) introduce(id record.PeerID) {
	others := d.connected()
	var newcomer, rest []toldPeer
	for _, p := range others {
		if p.ID == id {
			newcomer = append(newcomer, toldPeer(p))
		} else {
			rest = append(rest, toldPeer(p))
		}
	}
	d.tell(id, rest)
	for _, p := range rest {
		d.tell(p.ID, newcomer)
	}
}

// tell sends what to knows how to use: addresses of a local network mean nothing, or something else, elsewhere.
func (d *Discovery) tell(to record.PeerID, peers []toldPeer) {
	var useful []toldPeer
	for _, p := range peers {
		if p.Addrs = d.h.Useful(to, p.Addrs); len(p.Addrs) > 0 {
			useful = append(useful, p)
		}
	}
	if peers = useful; len(peers) == 0 {
		return
	}
	b, err := record.Encode(toldPeers{Peers: peers})
	if err == nil && len(b) <= maxToldBytes {
		err = d.h.Control().Send(to, topic, b)
	}
	if err != nil {
		d.cfg.Log.Debug("tell of peers", "peer", to, "why", err)
	}
}

// told takes another node's word about peers.
func (d *Discovery) told(ctx context.Context, from record.PeerID, b []byte) {
	peers, err := decodeTold(b)
	if err != nil {
		d.cfg.Log.Debug("told of peers", "peer", from, "why", err)
		return
	}
	d.post(ctx, func() {
		for _, p := range peers {
			if d.book.found(FromPeer, from, p.ID, p.Addrs, d.now()) && p.ID == from {
				d.introduce(from) // it moved, and the others should know
			}
		}
	})
}

// decodeTold reads a message and keeps of it what is well formed.
func decodeTold(b []byte) ([]toldPeer, error) {
	if len(b) > maxToldBytes {
		return nil, record.ErrBad
	}
	var m toldPeers
	if err := record.Decode(b, &m); err != nil {
		return nil, err
	}
	var out []toldPeer
	for _, p := range m.Peers[:min(len(m.Peers), maxTold)] {
		if _, err := record.PublicKey(p.ID); err != nil {
			continue
		}
		if addrs := own(p.ID, p.Addrs); len(addrs) > 0 {
			out = append(out, toldPeer{ID: p.ID, Addrs: addrs})
		}
	}
	return out, nil
}

// own keeps the well-formed addresses that are of id, at most maxAddrs.
func own(id record.PeerID, addrs []string) []string {
	var out []string
	for _, a := range addrs {
		if of, err := p2p.SplitAddr(a); err == nil && of == id && len(out) < maxAddrs {
			out = append(out, a)
		}
	}
	return out
}
