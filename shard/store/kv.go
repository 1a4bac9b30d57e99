package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Limits of an entry of a key-value area.
const (
	MaxKey   = 1 << 10 // bytes
	MaxValue = 4 << 20 // bytes
)

// KV is an area of sorted keys with small values, for a node's tables and logs. Its entries are not blocks: they count
// against no quota and are never collected. A write that returned survives a crash.
type KV struct {
	s      *Store
	prefix []byte
}

// KV returns the area called name. Different names never meet.
func (s *Store) KV(name string) *KV {
	if name == "" || strings.ContainsRune(name, 0) {
		panic(fmt.Sprintf("store: area name %q is empty or holds a zero byte", name))
	}
	return &KV{s: s, prefix: append(append([]byte{kvPrefix}, name...), 0)}
}

func (kv *KV) key(key []byte) []byte { return append(append([]byte{}, kv.prefix...), key...) }

// bounds translates [lo, hi); hi nil means to the end.
func (kv *KV) bounds(lo, hi []byte) (from, to []byte) {
	if hi == nil {
		return kv.key(lo), after(kv.prefix)
	}
	return kv.key(lo), kv.key(hi)
}

// Get returns a copy of the value of key, or shard.ErrNotFound.
func (kv *KV) Get(key []byte) (value []byte, err error) {
	if err := kv.s.enter(context.Background()); err != nil {
		return nil, err
	}
	defer kv.s.leave(&err)
	v, err := kv.s.copyOf(kv.key(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("key %q: %w", key, shard.ErrNotFound)
	}
	return v, err
}

// Set stores one value.
func (kv *KV) Set(key, value []byte) error {
	b := kv.Batch()
	b.Set(key, value)
	return b.Commit()
}

// Delete removes one key; an absent one is fine.
func (kv *KV) Delete(key []byte) error {
	b := kv.Batch()
	b.Delete(key)
	return b.Commit()
}

// Scan calls visit with the entries whose key lies in [lo, hi), in order, until it returns false. hi nil means to the
// end of the area. The slices are valid during the call alone. visit may write to the area: Scan does not see it.
func (kv *KV) Scan(lo, hi []byte, visit func(key, value []byte) bool) error {
	return kv.iterate(lo, hi, func(it *pebble.Iterator) error {
		for ok := it.First(); ok; ok = it.Next() {
			v, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			if !visitEntry(visit, it.Key()[len(kv.prefix):], v) {
				return nil
			}
		}
		return it.Error()
	})
}

// Last returns the entry with the highest key in [lo, hi), or shard.ErrNotFound.
func (kv *KV) Last(lo, hi []byte) (key, value []byte, err error) {
	err = kv.iterate(lo, hi, func(it *pebble.Iterator) error {
		if !it.Last() {
			return errors.Join(it.Error(), fmt.Errorf("last key: %w", shard.ErrNotFound))
		}
		v, err := it.ValueAndErr()
		key, value = append([]byte{}, it.Key()[len(kv.prefix):]...), append([]byte{}, v...)
		return err
	})
	return key, value, err
}

func (kv *KV) iterate(lo, hi []byte, use func(*pebble.Iterator) error) (err error) {
	if err := kv.s.enter(context.Background()); err != nil {
		return err
	}
	defer kv.s.leave(&err)
	from, to := kv.bounds(lo, hi)
	it, err := kv.s.iter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	return use(it)
}

// Batch collects changes that happen together or not at all. It belongs to one goroutine and is used once.
type Batch struct {
	kv  *KV
	ops []op
	n   int   // bytes
	err error // the first refusal
}

type op struct {
	kind       opKind
	key, value []byte // of a range: from and to
}

type opKind uint8

const (
	opSet opKind = iota
	opDelete
	opDeleteRange
)

// Batch begins a batch of changes.
func (kv *KV) Batch() *Batch { return &Batch{kv: kv} }

// Set stores a value.
func (b *Batch) Set(key, value []byte) {
	if len(key) > MaxKey || len(value) > MaxValue {
		b.err = errors.Join(b.err, fmt.Errorf("key of %d and value of %d bytes, limits %d and %d", len(key), len(value), MaxKey, MaxValue))
		return
	}
	b.add(op{opSet, b.kv.key(key), append([]byte{}, value...)})
}

// Delete removes a key.
func (b *Batch) Delete(key []byte) { b.add(op{kind: opDelete, key: b.kv.key(key)}) }

// DeleteRange removes all keys in [lo, hi); hi nil means to the end of the area.
func (b *Batch) DeleteRange(lo, hi []byte) {
	from, to := b.kv.bounds(lo, hi)
	b.add(op{opDeleteRange, from, to})
}

func (b *Batch) add(o op) {
	b.ops = append(b.ops, o)
	b.n += len(o.key) + len(o.value)
}

// Commit applies the changes in the order in which they were made; when it returns nil they survive a crash.
func (b *Batch) Commit() error {
	if b.err != nil {
		return b.err
	}
	s := b.kv.s
	return s.write(context.Background(), durable, func(p *pebble.Batch) error {
		if err := s.kvRoom(b.n); err != nil && b.grows() {
			return err
		}
		for _, o := range b.ops {
			if err := o.apply(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// grows is false for a batch that only deletes, which must be possible on a full disk.
func (b *Batch) grows() bool {
	for _, o := range b.ops {
		if o.kind == opSet {
			return true
		}
	}
	return false
}

func (o op) apply(p *pebble.Batch) error {
	switch o.kind {
	case opSet:
		return p.Set(o.key, o.value, nil)
	case opDelete:
		return p.Delete(o.key, nil)
	default:
		return p.DeleteRange(o.key, o.value, nil)
	}
}
