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
	"github.com/seed-7b27c88a/shoal/shard"
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
// store, through the daemon while that holds it.
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
		c, err := a.client()
		if err != nil {
			return err
		}
		return f(&prepare.Sources{Hub: node.HubDir(cfg), Find: asking(c), Store: lent{c}})
	} else if err != nil {
		return err
	}
	return errors.Join(f(l.Sources()), l.Close())
}

// lent is the daemon's store, block by block.
type lent struct{ c *api.Client }

func (l lent) Get(ctx context.Context, c cid.Cid) ([]byte, error) { return l.c.Block(ctx, c) }

// asking looks names up at the daemon.
func asking(c *api.Client) func(kind, name string) (cid.Cid, error) {
	return func(kind, name string) (cid.Cid, error) {
		list := c.Models
		if kind == shard.KindData {
			list = c.Datasets
		}
		items, err := list(context.Background())
		if errors.Is(err, api.ErrDown) {
			return cid.Undef, fmt.Errorf("%s %q is no directory or file here, and another process has the store open, so that stored names cannot be read: wait for it, or stop it", kind, name)
		}
		for _, i := range items {
			if i.Name == name {
				return cid.Decode(i.CID)
			}
		}
		return cid.Undef, err
	}
}
