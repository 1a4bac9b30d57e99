package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Get implements shard.Getter.
func (s *Store) Get(ctx context.Context, c cid.Cid) (data []byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return s.get(c)
}

// GetInto is Get into buf's memory, as far as that suffices: who serves many blocks needs no new memory for each, and where
// buf begins at a page, none of the system's either.
func (s *Store) GetInto(ctx context.Context, c cid.Cid, buf []byte) (data []byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return s.getInto(c, buf)
}

func (s *Store) get(c cid.Cid) ([]byte, error) { return s.getInto(c, nil) }

func (s *Store) getInto(c cid.Cid, buf []byte) ([]byte, error) {
	at, err := s.placeOf(c)
	if err == nil {
		return s.readLarge(c, at, buf)
	}
	var data []byte
	if errors.Is(err, pebble.ErrNotFound) {
		data, err = s.copyInto(blockKey(c), buf)
	}
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", shard.ErrNotFound, c)
	case err != nil:
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	return data, nil
}

// readLarge reads a block from its file. Garbage collection may move it meanwhile.
func (s *Store) readLarge(c cid.Cid, at place, buf []byte) ([]byte, error) {
	data, err := s.large.read(at, buf)
	for gone(err) {
		was := at
		if at, err = s.placeOf(c); errors.Is(err, pebble.ErrNotFound) {
			return nil, fmt.Errorf("%w: %s", shard.ErrNotFound, c)
		} else if err != nil {
			break
		}
		data, err = s.large.read(at, buf)
		if gone(err) && at == was {
			s.large.abandon(at.segment)
			break
		}
	}
	switch {
	case gone(err) || errors.Is(err, errRotten):
		return nil, &blockDamage{c, s.large.path(at.segment), err}
	case err != nil:
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	return data, nil
}

// copyOf reads a value; the database wants its own memory back. Where the value lies in another file that cannot be
// read, it learns so after it returned an empty one, and only the closer tells.
func (s *Store) copyOf(key []byte) ([]byte, error) { return s.copyInto(key, nil) }

func (s *Store) copyInto(key, buf []byte) ([]byte, error) {
	data, closer, err := s.db.Get(key)
	if err != nil {
		return nil, err
	}
	if buf == nil {
		buf = make([]byte, 0, len(data))
	}
	data = append(buf[:0], data...)
	if err := closer.Close(); err != nil {
		return nil, err
	}
	return data, nil
}

// Has implements shard.Store.
func (s *Store) Has(ctx context.Context, c cid.Cid) (found bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave(&err)
	_, found, err = s.find(c)
	return found, err
}

// size is the length of a key's value without reading it, as it may lie in another file; -1: there is none.
func (s *Store) size(key []byte) (int64, error) {
	it, err := s.iter(&pebble.IterOptions{LowerBound: key, UpperBound: append(bytes.Clone(key), 0)})
	if err != nil {
		return -1, err
	}
	n := int64(-1)
	if it.SeekPrefixGE(key) {
		v := it.LazyValue()
		n = int64(v.Len())
	}
	return n, it.Close()
}

// Add implements shard.Putter.
func (s *Store) Add(ctx context.Context, codec uint64, data []byte) (cid.Cid, error) {
	return (&putter{s: s, promise: settled}).Add(ctx, codec, data)
}

// Put implements shard.Putter.
func (s *Store) Put(ctx context.Context, c cid.Cid, data []byte) error {
	return (&putter{s: s, promise: settled}).Put(ctx, c, data)
}

// Deferred implements shard.Deferrer.
func (s *Store) Deferred() shard.Putter { return &putter{s: s} }

// PutLater is Put of Deferred: the block need not survive a crash yet. data may be used again when it returned.
func (s *Store) PutLater(ctx context.Context, c cid.Cid, data []byte) error {
	return (&putter{s: s}).Put(ctx, c, data)
}

// PutTwoLater is PutLater of two blocks, which are hashed together. Each has its own error.
func (s *Store) PutTwoLater(ctx context.Context, c, d cid.Cid, a, b []byte) (errA, errB error) {
	p := &putter{s: s}
	if errA, errB = shard.CheckTwo(c, d, a, b); errA == nil {
		errA = p.store(ctx, c, a)
	}
	if errB == nil {
		errB = p.store(ctx, d, b)
	}
	return errA, errB
}

// Sync makes durable what is stored.
func (s *Store) Sync(ctx context.Context) error {
	return s.write(ctx, settled, func(*pebble.Batch) error { return nil })
}

// Drop removes a block whose bytes cannot be read any more, pinned or not, so that it can be put anew.
func (s *Store) Drop(ctx context.Context, c cid.Cid) error {
	return s.write(ctx, durable, func(b *pebble.Batch) error {
		_, _, err := s.delete(b, c)
		return err
	})
}

// delete is a part of writes. found is false where there is no such block.
func (s *Store) delete(b *pebble.Batch, c cid.Cid) (size int64, found bool, err error) {
	e, found, err := s.find(c)
	if err != nil || !found {
		return 0, false, err
	}
	s.used.Add(-e.size)
	s.blocks.Add(-1)
	if e.at != nil {
		s.large.count(*e.at, -1)
	}
	return e.size, true, b.Delete(e.key, nil)
}

// Under returns a putter that pins each block under name in the same instant in which it stores it, so that no garbage
// collection comes between. It is for imports, whose identity is known only at the end: then pin the manifest and unpin
// name. Names that a crash left over are found with Pins. The putter is a shard.Deferrer.
func (s *Store) Under(name string) shard.Putter {
	return &putter{s: s, pin: name, promise: settled}
}

// putter is a way to store blocks.
type putter struct {
	s       *Store
	pin     string // name of a pin, or none
	promise promise
}

func (p *putter) Deferred() shard.Putter { return &putter{s: p.s, pin: p.pin} }

func (p *putter) Add(ctx context.Context, codec uint64, data []byte) (cid.Cid, error) {
	c, err := shard.Name(codec, data)
	if err != nil {
		return cid.Undef, err
	}
	if err := p.store(ctx, c, data); err != nil {
		return cid.Undef, err
	}
	return c, nil
}

func (p *putter) Put(ctx context.Context, c cid.Cid, data []byte) error {
	if err := shard.Check(c, data); err != nil {
		return err
	}
	return p.store(ctx, c, data)
}

// store writes data, which c is known to name.
func (p *putter) store(ctx context.Context, c cid.Cid, data []byte) error {
	if p.pin != "" {
		if err := checkPinName(p.pin); err != nil {
			return err
		}
	}
	have, err := p.s.intact(ctx, c)
	if err != nil {
		return err
	}
	if len(data) < p.s.from {
		return p.s.write(ctx, p.promise, func(b *pebble.Batch) error { return p.fill(b, c, data, nil) })
	}
	for {
		err := p.storeLarge(ctx, c, data, have)
		if !errors.Is(err, errCollected) {
			return err
		}
		have = false
	}
}

// intact tells whether a block is there, and removes it if it cannot be read any more: what is about to be stored heals it.
func (s *Store) intact(ctx context.Context, c cid.Cid) (bool, error) {
	if have, err := s.Has(ctx, c); !have || err != nil {
		return false, err
	}
	buf, _ := s.bufs.Get().(*[shard.MaxBlock]byte)
	if buf == nil {
		buf = new([shard.MaxBlock]byte)
	}
	defer s.bufs.Put(buf)
	_, err := s.GetInto(ctx, c, buf[:])
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, shard.ErrNotFound):
		return false, nil
	case errors.Is(err, shard.ErrCorrupt) && s.Err() == nil:
		s.log.Warn("a block that could not be read is stored anew", "block", c, "err", err)
		return false, s.Drop(ctx, c)
	}
	return false, err
}

// errCollected says that a block that was there has just gone.
var errCollected = errors.New("block collected")

// storeLarge writes the bytes before it takes the turn, unless they are there.
func (p *putter) storeLarge(ctx context.Context, c cid.Cid, data []byte, have bool) error {
	s := p.s
	var at *place
	if !have {
		if err := s.quotaRoom(len(data)); err != nil {
			return err
		}
		there, done, err := s.lay(ctx, data, s.disk.reserve)
		if err != nil {
			return err
		}
		defer done()
		at = &there
	}
	return s.write(ctx, p.promise, func(b *pebble.Batch) error { return p.fill(b, c, data, at) })
}

// fill adds a block to a write: its bytes, or if it is large the place where they are; nil: it was there before.
func (p *putter) fill(b *pebble.Batch, c cid.Cid, data []byte, at *place) error {
	s := p.s
	s.keepReachable(c, data)
	_, have, err := s.find(c)
	if err != nil {
		return err
	}
	if p.pin != "" {
		if err := b.Set(pinKey(p.pin, c), nil, nil); err != nil {
			return err
		}
	}
	switch {
	case have:
		return nil
	case len(data) >= s.from && at == nil:
		return errCollected
	case at != nil:
		if err := s.quotaRoom(len(data)); err != nil {
			return err
		}
	default:
		if err := s.room(len(data)); err != nil {
			return err
		}
	}
	s.used.Add(int64(len(data)))
	s.blocks.Add(1)
	if at != nil {
		return s.setPlace(b, c, *at)
	}
	return b.Set(blockKey(c), data, nil)
}

// lay writes the bytes of a large block to their file, where that leaves some bytes of the disk free. The database must
// learn the place before done is called. On a full disk it does not wait for room, as the database does.
func (s *Store) lay(ctx context.Context, data []byte, free int64) (at place, done func(), err error) {
	if err := s.enter(ctx); err != nil {
		return at, nil, err
	}
	defer s.leave(&err)
	select {
	case <-s.disk.fullNow():
		return at, nil, s.disk.errFull()
	default:
	}
	if err := s.diskRoom(len(data), free); err != nil {
		return at, nil, err
	}
	at, done, err = s.large.write(data)
	switch {
	case noRoom(err):
		err = s.disk.errFull()
	case errors.Is(err, fs.ErrNotExist):
		s.damaged(err)
	case err != nil:
		s.fail(err)
	}
	return at, done, err
}

// setPlace is a part of writes.
func (s *Store) setPlace(b *pebble.Batch, c cid.Cid, at place) error {
	at.epoch = s.large.now()
	s.large.count(at, +1)
	return b.Set(placeKey(c), at.encode(), nil)
}
