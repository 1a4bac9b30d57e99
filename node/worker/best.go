package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// With eval.keep_best the submitter's word says which weights are the best so far. It is signed and numbered, and lies
// beside the job's log: measurements end after the log does, and who agrees on steps need not agree on them. Members pass
// it on to each other when they connect, keep the newest, and export what it names. Those that hold settled checkpoints
// hold these weights too, so that they are not lost with the submitter.

const (
	contextBest = "shoal/best"
	topicBest   = "best"
	keyBest     = "best"  // in the job's area: the newest word, as it travels
	maxBest     = 1 << 10 // bytes of it
	bestWait    = 10 * time.Minute
)

// bestWord is what the submitter says of its best measurement.
type bestWord struct {
	Number   uint64  `cbor:"1,keyasint"` // from 1; the highest holds
	Step     uint64  `cbor:"2,keyasint"`
	Loss     float64 `cbor:"3,keyasint"` // of held-out rows
	Manifest cid.Cid `cbor:"4,keyasint"` // the checkpoint
}

// best is the newest word that this node knows. The zero value knows none.
type best struct {
	mu    sync.Mutex // guards the rest, and the stored copy
	word  bestWord
	bytes []byte // as it travels; nil: none
}

// openBest checks a word from anywhere.
func openBest(b []byte, job cid.Cid, submitter record.PeerID) (w bestWord, err error) {
	var s record.Signed
	if len(b) > maxBest {
		return w, fmt.Errorf("%w: %d bytes about the best weights", record.ErrBad, len(b))
	}
	if err := record.Decode(b, &s); err != nil {
		return w, err
	}
	r, _, err := record.Open(&s)
	if err != nil {
		return w, err
	}
	if r.Header.Context != contextBest || r.Header.Job != job || s.Signer != submitter {
		return w, fmt.Errorf("%w: not the submitter's word about the best weights", record.ErrBad)
	}
	if err := record.Decode(r.Body, &w); err != nil {
		return w, err
	}
	if w.Number == 0 || w.Step > math.MaxInt64 || math.IsNaN(w.Loss) || math.IsInf(w.Loss, 0) || w.Manifest.Type() != cid.DagCBOR {
		return w, fmt.Errorf("%w: best weights %+v", record.ErrBad, w)
	}
	return w, nil
}

// loadBest reads what was stored before the last stop.
func (j *Job) loadBest() error {
	w, b, err := j.storedBest()
	j.best.word, j.best.bytes = w, b
	return err
}

func (j *Job) storedBest() (w bestWord, b []byte, err error) {
	b, err = j.Store.KV(areaPrefix + j.task.ID.String()).Get([]byte(keyBest))
	if errors.Is(err, shard.ErrNotFound) {
		return w, nil, nil
	}
	if err == nil {
		w, err = openBest(b, j.task.ID, j.task.Terms.Submitter)
	}
	if err != nil {
		return w, nil, fmt.Errorf("which weights are best: %w", err)
	}
	return w, b, nil
}

// sayBest tells everybody of better weights, at the submitter.
func (j *Job) sayBest(step uint64, loss float64, manifest cid.Cid) error {
	j.best.mu.Lock()
	w := bestWord{Number: j.best.word.Number + 1, Step: step, Loss: loss, Manifest: manifest}
	h := record.Header{Context: contextBest, Version: record.Version, Job: j.task.ID, Boot: j.Host.Boot()}
	s, _, err := record.Sign(h, w, j.Host.ID(), j.Host.Key())
	var b []byte
	if err == nil {
		b, err = record.Encode(s)
	}
	if err == nil {
		err = j.takeBest(w, b)
	}
	j.best.mu.Unlock()
	for _, id := range j.connected() {
		j.sendRaw(id, topicBest, b)
	}
	return err
}

// takeBest stores a newer word. Called with best.mu held.
func (j *Job) takeBest(w bestWord, b []byte) error {
	j.best.word, j.best.bytes = w, b
	return j.area.Set([]byte(keyBest), b)
}

// greetBest tells a peer what this node knows; nothing at all asks it for what it knows.
func (j *Job) greetBest(id record.PeerID) {
	j.best.mu.Lock()
	b := j.best.bytes
	j.best.mu.Unlock()
	j.sendRaw(id, topicBest, b)
}

// heardBest takes a word that a peer passes on, and answers an older one with the newer.
func (j *Job) heardBest(from record.PeerID, payload []byte) {
	var w bestWord
	if len(payload) > 0 {
		var err error
		if w, err = openBest(payload, j.task.ID, j.task.Terms.Submitter); err != nil {
			j.log.Debug("dropped a word about the best weights", "from", from, "err", err)
			return
		}
	}
	j.best.mu.Lock()
	defer j.best.mu.Unlock()
	switch known := j.best.word.Number; {
	case w.Number < known:
		j.sendRaw(from, topicBest, j.best.bytes)
	case w.Number > known:
		if err := j.takeBest(w, payload); err != nil {
			j.log.Warn("store which weights are best", "err", err)
		}
		j.loops.Go(func() { j.holdBest(from) })
	}
}

// holdBest keeps the best weights here, if this node is one of those that hold settled checkpoints. from are peers that may
// have them.
func (j *Job) holdBest(from ...record.PeerID) {
	j.best.mu.Lock()
	w := j.best.word
	j.best.mu.Unlock()
	pins, err := j.Store.Pins(j.ctx, j.pinName(pinCheckpoint))
	if err != nil || len(pins) == 0 || w.Number == 0 || j.task.Mine {
		return // the submitter, back with an empty disk, gets them with its result
	}
	ctx, cancel := context.WithTimeout(j.ctx, bestWait)
	defer cancel()
	if _, err := j.fetchManifest(ctx, w.Manifest, append(slices.Clone(from), j.task.Terms.Submitter)); err == nil {
		err = j.pinBest(w.Step, w.Manifest)
	}
	if err != nil && j.ctx.Err() == nil {
		j.log.Info("the best weights are not kept here", "step", w.Step, "err", err)
	}
}

// pinBest keeps a checkpoint as the best. Those before stay until it is safe.
func (j *Job) pinBest(step uint64, c cid.Cid) error {
	name := pinBest + strconv.FormatUint(step, 10)
	old, err := j.Store.Pins(j.ctx, j.pinName(pinBest))
	if err != nil {
		return err
	}
	if err := j.pin(name, c); err != nil {
		return err
	}
	for _, p := range old {
		if p.Name != j.pinName(name) {
			j.unpin(strings.TrimPrefix(p.Name, j.pinName("")))
		}
	}
	return nil
}
