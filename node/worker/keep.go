package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

// What a job keeps on disk besides blocks, in a key-value area of its own: the spine that the coordination asked to
// save, and its log entry by entry.
const (
	areaPrefix = "job/"
	keySpine   = "spine"
	keyLog     = "log/" // then the entry's number, big-endian
)

// Pins of a job.
const (
	pinMaterials  = "materials"
	pinCheckpoint = "checkpoint/" // then the step
	pinDonation   = "donation/"   // then the step
	pinBest       = "best/"       // then the step whose held-out loss is the lowest, at the submitter
)

func checkpointPin(step uint64) string { return pinCheckpoint + strconv.FormatUint(step, 10) }
func donationPin(step uint64) string   { return pinDonation + strconv.FormatUint(step, 10) }

func (j *Job) pinName(name string) string { return areaPrefix + j.task.ID.String() + "/" + name }

func (j *Job) pin(name string, c cid.Cid) error {
	return j.Store.Pin(j.ctx, j.pinName(name), c)
}

func (j *Job) unpin(name string) {
	if err := j.Store.Unpin(j.ctx, j.pinName(name)); err != nil && j.ctx.Err() == nil {
		j.log.Warn("unpin", "name", name, "err", err)
	}
}

// unpinBefore drops the pins of checkpoints of earlier steps.
func (j *Job) unpinBefore(step uint64) {
	prefix := j.pinName(pinCheckpoint)
	pins, err := j.Store.Pins(j.ctx, prefix)
	if err != nil {
		j.log.Warn("list pins", "err", err)
		return
	}
	for _, p := range pins {
		if s, err := strconv.ParseUint(strings.TrimPrefix(p.Name, prefix), 10, 64); err == nil && s < step {
			j.unpin(checkpointPin(s))
		}
	}
}

// persist performs the Saves and Loggeds of one step together, before its other effects: one fsync, and nothing is said
// to others that a restart would forget. A disk that fails here makes that impossible, so the node leaves the job.
func (j *Job) persist(effects []coord.Effect) {
	b := j.area.Batch()
	n, err := j.gather(b, effects)
	if err == nil && n > 0 {
		err = b.Commit()
	}
	if err != nil {
		j.hinder(fmt.Errorf("store the job's log: %w", err))
	}
}

func (j *Job) gather(b *store.Batch, effects []coord.Effect) (n int, err error) {
	for _, e := range effects {
		var v []byte
		switch e := e.(type) {
		case coord.Save:
			if v, err = record.Encode(e.Spine); err == nil {
				b.Set([]byte(keySpine), v)
			}
		case coord.Logged:
			if v, err = record.Encode(e.Entry); err == nil {
				j.logged++
				b.Set(binary.BigEndian.AppendUint64([]byte(keyLog), j.logged), v)
			}
		default:
			continue
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// loadSpine reads what was saved before the last stop, and where the stored log ends.
func (j *Job) loadSpine() ([]*record.Signed, error) {
	key, _, err := j.area.Last([]byte(keyLog), []byte(keyLog+"\xff"))
	if err == nil && len(key) == len(keyLog)+8 {
		j.logged = binary.BigEndian.Uint64(key[len(keyLog):])
	} else if err != nil && !errors.Is(err, shard.ErrNotFound) {
		return nil, err
	}
	return readSpine(j.area)
}

// readSpine reads what a job's coordination last saved; nil where it never did.
func readSpine(area *store.KV) ([]*record.Signed, error) {
	b, err := area.Get([]byte(keySpine))
	if errors.Is(err, shard.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var spine []*record.Signed
	if err := record.Decode(b, &spine); err != nil {
		return nil, fmt.Errorf("the job's saved state: %w", err)
	}
	return spine, nil
}
