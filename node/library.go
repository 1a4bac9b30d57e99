package node

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// Library keeps models and data in a home's store under names. It implements api.Library and is safe for concurrent
// use.
type Library struct {
	store *store.Store
	t     *table
	hub   string // directory of hub downloads

	busy func() bool // a job runs, so nothing may be collected; nil: none ever does
}

func newLibrary(s *store.Store, home string) *Library {
	return &Library{store: s, t: &table{s.KV("node")}, hub: filepath.Join(home, hubDir)}
}

// OpenLibrary opens the library of a home whose daemon does not run; Close it in the end.
func OpenLibrary(cfg config.Config) (*Library, error) {
	s, err := openStore(cfg)
	if err != nil {
		return nil, err
	}
	return newLibrary(s, cfg.Home), nil
}

// Close closes the store.
func (l *Library) Close() error { return l.store.Close() }

// Kinds of item.
const (
	kindModel = "model"
	kindData  = "data"
)

var itemName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Sources is what names in a spec are resolved with.
func (l *Library) Sources() *prepare.Sources {
	return &prepare.Sources{Store: l.store, Find: l.find, Hub: l.hub}
}

// find returns the manifest that a name stands for; undefined if nobody has that name.
func (l *Library) find(kind, name string) (cid.Cid, error) {
	var item api.Item
	ok, err := l.t.get(kind+"/"+name, &item)
	if err != nil || !ok {
		return cid.Undef, err
	}
	return cid.Decode(item.CID)
}

// Models implements api.Library.
func (l *Library) Models(context.Context) ([]api.Item, error) { return l.items(kindModel) }

// Datasets implements api.Library.
func (l *Library) Datasets(context.Context) ([]api.Item, error) { return l.items(kindData) }

// Block implements api.Library.
func (l *Library) Block(ctx context.Context, c cid.Cid) ([]byte, error) { return l.store.Get(ctx, c) }

func (l *Library) items(kind string) ([]api.Item, error) {
	return scan[api.Item](l.t, kind+"/", "", 1<<16)
}

// ImportModel implements api.Library.
func (l *Library) ImportModel(ctx context.Context, r api.ImportRequest, p api.Progress) (api.Item, error) {
	name, err := nameOf(r)
	if err != nil {
		return api.Item{}, err
	}
	m, err := l.Sources().Model(ctx, r.Path, prepare.Progress(p))
	if err != nil {
		return api.Item{}, asked(err)
	}
	if err := m.Check(); err != nil {
		return api.Item{}, asked(err)
	}
	man, c, err := m.Store(ctx, shard.KindModel, l.store.Under(pinOf(kindModel, name)))
	if err != nil {
		return api.Item{}, asked(err)
	}
	return l.keep(ctx, api.Item{Name: name, CID: c.String(), Kind: kindModel, Bytes: int64(man.Size()), Detail: m.Detail()})
}

// AddDataset implements api.Library.
func (l *Library) AddDataset(ctx context.Context, r api.ImportRequest, p api.Progress) (api.Item, error) {
	name, err := nameOf(r)
	if err != nil {
		return api.Item{}, err
	}
	if r.Type != "" && !slices.Contains(job.Types(), r.Type) {
		return api.Item{}, api.BadRequest("type %q: want %s", r.Type, strings.Join(job.Types(), ", "))
	}
	d, err := prepare.StoreRows(ctx, r.Path, r.Type, name, l.store.Under(pinOf(kindData, name)), prepare.Progress(p))
	if err != nil {
		return api.Item{}, asked(err)
	}
	return l.keep(ctx, api.Item{Name: name, CID: d.CID.String(), Kind: kindData, Bytes: d.Bytes, Detail: d.Detail})
}

func pinOf(kind, name string) string { return kind + "/" + name }

// keep enters an item under its name, in place of what had it, and pins it.
func (l *Library) keep(ctx context.Context, item api.Item) (api.Item, error) {
	c, err := cid.Decode(item.CID)
	if err != nil {
		return item, err
	}
	old, err := l.find(item.Kind, item.Name)
	if err != nil {
		return item, err
	}
	pin := pinOf(item.Kind, item.Name)
	if err := l.store.Pin(ctx, pin, c); err != nil {
		return item, err
	}
	if err := l.t.write(put(item.Kind+"/"+item.Name, item)); err != nil {
		return item, err
	}
	if old.Defined() && old != c {
		item.Replaced = old.String() // told once, not stored
		err = l.store.Unpin(ctx, pin, old)
	}
	return item, err
}

// RemoveModel implements api.Library.
func (l *Library) RemoveModel(ctx context.Context, name string) (api.Removed, error) {
	return l.remove(ctx, kindModel, name)
}

// RemoveDataset implements api.Library.
func (l *Library) RemoveDataset(ctx context.Context, name string) (api.Removed, error) {
	return l.remove(ctx, kindData, name)
}

// remove lets go of what has a name, and frees what nothing else holds. A crash in between leaves the name, to be removed again.
func (l *Library) remove(ctx context.Context, kind, name string) (api.Removed, error) {
	c, err := l.find(kind, name)
	if err != nil {
		return api.Removed{}, err
	}
	if !c.Defined() {
		return api.Removed{}, api.NotFound("no %s is stored as %q; \"shoal %s ls\" lists what there is", kind, name, kind)
	}
	out := api.Removed{ID: c.String(), Name: name}
	if err := l.store.Unpin(ctx, pinOf(kind, name)); err != nil {
		return out, err
	}
	if err := l.t.write(drop(kind + "/" + name)); err != nil {
		return out, err
	}
	if out.Later = l.busy != nil && l.busy(); out.Later {
		return out, nil // see collect
	}
	freed, err := l.store.GC(ctx)
	out.Freed = freed.Bytes
	return out, err
}

// nameOf completes and checks the name of an import.
func nameOf(r api.ImportRequest) (string, error) {
	name := r.Name
	if name == "" {
		name, _, _ = strings.Cut(filepath.Base(strings.TrimPrefix(r.Path, "hf:")), "@")
		for _, ext := range []string{".gz", ".zst", ".jsonl", ".json"} {
			name = strings.TrimSuffix(name, ext)
		}
	}
	if !itemName.MatchString(name) {
		return "", api.BadRequest("name %q: use letters, digits, . _ and -, at most 128; --name sets it", name)
	}
	return name, nil
}
