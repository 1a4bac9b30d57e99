package node

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

// table keeps small JSON values under slash-separated keys in the node's store. A write that returned survives a
// crash. Safe for concurrent use.
type table struct{ kv *store.KV }

// change is one part of an atomic write.
type change func(*store.Batch) error

func put(key string, v any) change {
	return func(b *store.Batch) error {
		data, err := json.Marshal(v)
		if err == nil {
			b.Set([]byte(key), data)
		}
		return err
	}
}

func drop(key string) change {
	return func(b *store.Batch) error { b.Delete([]byte(key)); return nil }
}

// dropRange removes the keys in [lo, hi).
func dropRange(lo, hi string) change {
	return func(b *store.Batch) error { b.DeleteRange([]byte(lo), []byte(hi)); return nil }
}

// write applies all changes or none.
func (t *table) write(changes ...change) error {
	b := t.kv.Batch()
	for _, c := range changes {
		if err := c(b); err != nil {
			return err
		}
	}
	return b.Commit()
}

func (t *table) get(key string, v any) (ok bool, err error) {
	data, err := t.kv.Get([]byte(key))
	if errors.Is(err, shard.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	return err == nil, wrapKey(key, err)
}

// last reads the value of the highest key with the prefix, which ends in a slash.
func (t *table) last(prefix string, v any) (ok bool, err error) {
	key, data, err := t.kv.Last([]byte(prefix), []byte(after(prefix)))
	if errors.Is(err, shard.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	return err == nil, wrapKey(string(key), err)
}

// scan reads up to limit values whose keys have the prefix, in order of the keys, beginning with from if not empty.
func scan[T any](t *table, prefix, from string, limit int) ([]T, error) {
	out := []T{}
	if from == "" {
		from = prefix
	}
	var bad error
	err := t.kv.Scan([]byte(from), []byte(after(prefix)), func(key, data []byte) bool {
		var v T
		if bad = wrapKey(string(key), json.Unmarshal(data, &v)); bad != nil {
			return false
		}
		out = append(out, v)
		return len(out) < limit
	})
	return out, errors.Join(err, bad)
}

// after is the first key past all that begin with a prefix that ends in a slash.
func after(prefix string) string { return prefix[:len(prefix)-1] + string('/'+1) }

func wrapKey(key string, err error) error {
	if err != nil {
		err = fmt.Errorf("table entry %s: %w", key, err)
	}
	return err
}
