package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
)

// library is what model and data commands need; a daemon offers it through its API, and so does the store itself.
type library interface{ api.Library }

// withLibrary runs f on the daemon's library, or, when no daemon runs, on the home's store in this process.
func (a *app) withLibrary(ctx context.Context, f func(library) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	_, err = c.Info(ctx)
	if !errors.Is(err, api.ErrDown) {
		if err != nil {
			return err
		}
		return f(c)
	}
	cfg, err := a.config(noFlags)
	if err != nil {
		return err
	}
	l, err := node.OpenLibrary(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}
