package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Join shows a private swarm's invite at the node that issued it, in the name of key, and returns the membership that
// comes back. It uses a host of its own that listens nowhere.
func Join(ctx context.Context, key ed25519.PrivateKey, t swarm.Token, log *slog.Logger) (swarm.Chain, error) {
	guest := swarm.NewGuest(t, record.IDOf(key.Public().(ed25519.PublicKey)), time.Now)
	h, err := New(Config{Swarm: t.Swarm.Name, Key: key, Listen: []string{}, Door: guest, Log: log})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var errs []error
	for _, a := range t.Addrs {
		err := h.Connect(ctx, a)
		if c := guest.Chain(); c != nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
