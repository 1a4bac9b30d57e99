package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"

	"github.com/seed-7b27c88a/shoal/shard"
)

// promise is what a write that returned survives.
type promise int

const (
	later   promise = iota // the end of the process, mostly
	durable                // a crash: the write and all earlier ones, but large blocks only where they were promised to
	settled                // a crash, and with it all large blocks so far
)

// write is the one way into the database. fill looks at what is there and fills a batch; nobody else writes between the
// two. A promise holds even if fill found nothing to do: what it found may be on its way to the disk only.
//
// The turn is given on before the fsync, so concurrent writers share one.
func (s *Store) write(ctx context.Context, p promise, fill func(b *pebble.Batch) error) (err error) {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave(&err)
	if err := s.take(ctx); err != nil {
		return err
	}
	b, seq, err := s.applyInTurn(p >= durable, fill)
	epoch := s.large.now() // no place so far has a later one
	s.give()
	if err == nil && p == settled {
		err = s.settleLarge(epoch) // while the database syncs too
	}
	if seq > 0 {
		err = errors.Join(err, s.wait(b, seq))
	}
	return err
}

func (s *Store) settleLarge(epoch uint64) error {
	err := s.large.sync(epoch)
	if err != nil {
		s.fail(err)
	}
	return s.outcome(err)
}

// recordEpoch tells the database how many large blocks are on the disk, if that changed. The caller has the turn.
func (s *Store) recordEpoch(b *pebble.Batch) error {
	epoch := s.large.durable.Load()
	if epoch == s.recorded {
		return nil
	}
	s.recorded = epoch
	return b.Set(epochKey, binary.BigEndian.AppendUint64(nil, epoch), nil)
}

// applyInTurn returns seq 0 if there is nothing to wait for.
func (s *Store) applyInTurn(wait bool, fill func(b *pebble.Batch) error) (b *pebble.Batch, seq uint64, err error) {
	b = s.db.NewBatch()
	if err := fill(b); err != nil {
		b.Close()
		return nil, 0, err
	}
	if b.Empty() {
		if !wait || s.synced.Load() >= s.seq {
			return nil, 0, b.Close()
		}
		if err := b.LogData(nil, nil); err != nil { // something to sync
			return nil, 0, err
		}
	}
	if err := s.recordEpoch(b); err != nil {
		return nil, 0, err
	}
	s.seq++
	if !wait {
		defer b.Close()
		return nil, 0, s.outcome(s.db.Apply(b, pebble.NoSync))
	}
	return b, s.seq, s.outcome(s.db.ApplyNoSyncWait(b, pebble.Sync))
}

// wait returns when the batch, and with it every earlier one, is on the disk.
func (s *Store) wait(b *pebble.Batch, seq uint64) error {
	err := b.SyncWait()
	if err != nil {
		s.fail(err)
	}
	if err := s.outcome(err); err != nil {
		return err
	}
	for {
		old := s.synced.Load()
		if old >= seq || s.synced.CompareAndSwap(old, seq) {
			return b.Close()
		}
	}
}

// outcome is err, or the failure that the database only told its logger.
func (s *Store) outcome(err error) error {
	if failure := s.Err(); failure != nil {
		return failure
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// take waits for the turn to write, unless the disk is full.
func (s *Store) take(ctx context.Context) error {
	full := s.disk.fullNow()
	select {
	case <-full:
		return s.disk.errFull()
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-full:
		return s.disk.errFull()
	case <-s.failed:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) give() { <-s.turn }

// room is ErrFull where n more bytes of blocks are too many.
func (s *Store) room(n int) error {
	if err := s.quotaRoom(n); err != nil {
		return err
	}
	return s.diskRoom(n, s.disk.reserve)
}

func (s *Store) quotaRoom(n int) error {
	if s.quota > 0 && s.used.Load()+int64(n) > s.quota {
		return fmt.Errorf("%w: %d of %d bytes of the quota are in use; raise it, or remove models, data or jobs",
			shard.ErrFull, s.used.Load(), s.quota)
	}
	return nil
}

// kvShare is the part of the reserve that the key-value areas may use: a job's log must go on when blocks cannot.
const kvShare = 4

func (s *Store) kvRoom(n int) error {
	return s.diskRoom(n, s.disk.reserve/kvShare)
}

// diskRoom also notices that the directory is gone: writes to its open log would go on, to be lost with the process.
func (s *Store) diskRoom(n int, reserve int64) error {
	if _, err := s.disk.fs.GetDiskUsage(s.disk.dir); errors.Is(err, fs.ErrNotExist) {
		s.damaged(err)
		return s.Err()
	}
	return s.disk.room(n, reserve)
}
