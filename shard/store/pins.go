package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Pin is a name that protects a block; where the block is a manifest, also all blocks it lists. The blocks need not be
// there yet: to pin first and fetch afterwards leaves no gap.
type Pin struct {
	Name string
	Root cid.Cid
}

// Pin protects roots under name, besides what name pins already. A block stays as long as any name pins it.
func (s *Store) Pin(ctx context.Context, name string, roots ...cid.Cid) error {
	if err := checkPinName(name); err != nil {
		return err
	}
	for _, c := range roots {
		if err := shard.CheckCID(c); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return s.write(ctx, durable, func(b *pebble.Batch) error {
		if err := s.kvRoom(len(roots) * 64); err != nil {
			return err
		}
		for _, c := range roots {
			if s.keep != nil {
				data, _ := s.get(c) // absent: nothing to keep but the name
				s.keepReachable(c, data)
			}
			if err := b.Set(pinKey(name, c), nil, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Unpin takes roots away from name, or everything if no roots are given. What nobody pins goes with the next GC.
func (s *Store) Unpin(ctx context.Context, name string, roots ...cid.Cid) error {
	if err := checkPinName(name); err != nil {
		return err
	}
	return s.write(ctx, durable, func(b *pebble.Batch) error {
		if len(roots) == 0 {
			r := pinRange(name)
			return b.DeleteRange(r, after(r), nil)
		}
		for _, c := range roots {
			if err := b.Delete(pinKey(name, c), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Pins lists the pins whose name begins with prefix, by name.
func (s *Store) Pins(ctx context.Context, prefix string) (list []Pin, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return s.pins(prefix)
}

func (s *Store) pins(prefix string) ([]Pin, error) {
	it, err := s.iter(&pebble.IterOptions{LowerBound: append([]byte{pinPrefix}, prefix...), UpperBound: []byte{pinPrefix + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var list []Pin
	for ok := it.First(); ok; ok = it.Next() {
		name, c, err := pinOf(it.Key())
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(name, prefix) {
			break
		}
		list = append(list, Pin{name, c})
	}
	return list, it.Error()
}

func checkPinName(name string) error {
	if name == "" || len(name) > MaxPinName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("pin name %.80q is empty, longer than %d bytes or holds a zero byte", name, MaxPinName)
	}
	return nil
}
