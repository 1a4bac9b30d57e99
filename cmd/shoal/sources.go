package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/spf13/pflag"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/prepare"
)

// withLibrary runs f on the daemon's library, or, when no daemon runs, on the home's store in this process.
func (a *app) withLibrary(ctx context.Context, f func(api.Library) error) error {
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
	cfg, err := a.config(pflag.NewFlagSet("", pflag.ContinueOnError))
	if err != nil {
		return err
	}
	l, err := node.OpenLibrary(cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

// withSources lends f what names are resolved with: directories and hf: always, stored names where the home has a
// store that no daemon holds.
func (a *app) withSources(f func(*prepare.Sources) error) error {
	cfg, err := a.config(pflag.NewFlagSet("", pflag.ContinueOnError))
	if err != nil {
		return err
	}
	if !node.HasStore(cfg) {
		return f(&prepare.Sources{Hub: node.HubDir(cfg)})
	}
	l, err := node.OpenLibrary(cfg)
	if errors.Is(err, node.ErrBusy) {
		return f(&prepare.Sources{Hub: node.HubDir(cfg), Find: heldByDaemon})
	} else if err != nil {
		return err
	}
	return errors.Join(f(l.Sources()), l.Close())
}

// heldByDaemon is how names are looked up while the daemon has the store open.
func heldByDaemon(kind, name string) (cid.Cid, error) {
	return cid.Undef, fmt.Errorf("%s %q is no directory or file here, and stored names cannot be read while the daemon has the store open; name a directory or file, or stop the daemon", kind, name)
}
