package xfer

import (
	"context"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Host opens streams to peers and takes theirs; *p2p.Host is one.
type Host[S Stream] interface {
	Open(ctx context.Context, to record.PeerID, proto string) (S, error)
	Handle(proto string, fn func(S))
}

// bulkHost is a Host that can also give a stream a connection of its own, where that comes about.
type bulkHost[S Stream] interface {
	OpenBulk(ctx context.Context, to record.PeerID, proto string) (S, error)
	HandleBulk(proto string, fn func(S))
}

// Over returns an Xfer on a host's streams. cfg.Open is set here.
func Over[S Stream](h Host[S], cfg Config) *Xfer {
	plain := func(ctx context.Context, to record.PeerID) (Stream, error) { return h.Open(ctx, to, Protocol) }
	cfg.Open = plain
	b, ok := h.(bulkHost[S])
	if ok {
		cfg.Open = func(ctx context.Context, to record.PeerID) (Stream, error) {
			if s, err := b.OpenBulk(ctx, to, Protocol); err == nil {
				return s, nil
			}
			return plain(ctx, to)
		}
	}
	x := New(cfg)
	h.Handle(Protocol, func(s S) { x.Serve(s) })
	if ok {
		b.HandleBulk(Protocol, func(s S) { x.Serve(s) })
	}
	return x
}
