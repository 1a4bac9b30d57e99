package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

// tellLost names what lay in files of the store that were cut or gone when it was opened. Jobs fetch what they miss when they
// begin.
func (n *Node) tellLost(ctx context.Context) error {
	lost := n.store.Lost()
	if len(lost.Files) == 0 {
		return nil
	}
	of, err := holders(ctx, n.store, lost.Blocks)
	if err != nil {
		return err
	}
	n.log.Warn("files of the store were cut or gone, and what was in them is lost; import these models and data again, jobs fetch what they miss from other nodes",
		"files", lost.Files, "blocks", len(lost.Blocks), "bytes", config.Bytes(lost.Bytes), "of", of)
	return nil
}

// holders are the names of the pins that hold some of the blocks, each once.
func holders(ctx context.Context, s *store.Store, blocks []cid.Cid) (names []string, err error) {
	wanted := map[cid.Cid]bool{}
	for _, c := range blocks {
		wanted[c] = true
	}
	pins, err := s.Pins(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		held := wanted[p.Root]
		if m, err := shard.LoadManifest(ctx, s, p.Root); err == nil {
			held = held || slices.ContainsFunc(m.Blocks(), func(c cid.Cid) bool { return wanted[c] })
		}
		if held && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names, nil
}

// checkLibrary looks whether all blocks of the library's models and data are there.
func checkLibrary(l *Library, c api.Check) api.Check {
	c.OK = true
	var incomplete []string
	for _, kind := range []string{kindModel, kindData} {
		items, err := l.items(kind)
		for _, i := range items {
			missing, total, merr := l.missing(context.Background(), i)
			err = errors.Join(err, merr)
			if missing > 0 {
				incomplete = append(incomplete, fmt.Sprintf("%s %s lacks %d of %d blocks", kind, i.Name, missing, total))
			}
		}
		if err != nil {
			c.OK, c.Detail, c.Fix = false, err.Error(), "check the disk"
			return c
		}
	}
	if len(incomplete) > 0 {
		c.OK, c.Detail, c.Fix = false, strings.Join(incomplete, ", "), "import them again"
	}
	return c
}

// missing counts the blocks of an item that are not there.
func (l *Library) missing(ctx context.Context, i api.Item) (missing, total int, err error) {
	root, err := cid.Decode(i.CID)
	if err != nil {
		return 0, 0, err
	}
	m, err := shard.LoadManifest(ctx, l.store, root)
	if errors.Is(err, shard.ErrNotFound) || errors.Is(err, shard.ErrCorrupt) {
		return 1, 1, nil // nobody knows of which blocks it consists
	} else if err != nil {
		return 0, 0, err
	}
	for _, c := range m.Blocks() {
		have, err := l.store.Has(ctx, c)
		if err != nil {
			return 0, 0, err
		}
		if total++; !have {
			missing++
		}
	}
	return missing, total, nil
}
