package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// Where owners step, a checkpoint has the optimizer's state as a file per chunk, which the chunk's owner wrote:
// little-endian, the count of steps as 8 bytes, then m, v and the weights that are stepped, as far as the job has them. An
// owner names its files by a manifest of its own, the part; who writes the checkpoint fetches the parts' blocks and lists
// them all. Content is the owners' alone, so all who write the checkpoint name the same manifest. Chunks whose owner is
// gone before it gave its part are not in it: they begin anew after a restore.
const (
	momentsPrefix = "moments/" // then the chunk's number in six digits
	pinPart       = "part/"    // then the step
)

func momentsPath(chunk int) string { return fmt.Sprintf("%s%06d", momentsPrefix, chunk) }

// partAsk asks an owner for its part of a checkpoint.
type partAsk struct {
	ID     uint64  `cbor:"1,keyasint"`
	Round  uint64  `cbor:"2,keyasint"`
	Commit cid.Cid `cbor:"3,keyasint"`
}

// partAnswer names the part's manifest, or says why there is none.
type partAnswer struct {
	ID       uint64  `cbor:"1,keyasint"`
	Manifest cid.Cid `cbor:"2,keyasint,omitzero"`
	Why      string  `cbor:"3,keyasint,omitempty"`
}

func (a partAnswer) id() uint64 { return a.ID }

const (
	partWait  = 20 * time.Second // for an owner to write its part, and for its blocks
	keptParts = 4
)

// parts are what this node wrote of the newest checkpoints, and who else did.
type parts struct {
	asks asks[partAnswer]

	mu      sync.Mutex    // guards the rest
	done    []part        // newest last, at most keptParts
	changed chan struct{} // closed with the next change of done; nil: nobody waits
	pinned  []uint64      // rounds, oldest first
}

// part is what an owner wrote of a checkpoint.
type part struct {
	round    uint64
	commit   cid.Cid
	owners   []record.PeerID // of the chunks
	manifest cid.Cid         // undefined while it is being written
}

// beginPart copies the state of this node's chunks, which is that of a step just done, and writes it as blocks.
func (j *Job) beginPart(step uint64, commit cid.Cid) error {
	m := j.moments
	p := part{round: step, commit: commit, owners: m.ownersOf(step)}
	var own []trainer.Moments
	for c, o := range p.owners {
		if o != m.self {
			continue
		}
		x, ok, err := m.trainer.Moments(c)
		if err != nil {
			return err
		}
		if ok && x.Step == step {
			own = append(own, x)
		}
	}
	j.parts.put(p)
	j.work.Go(func() {
		manifest, err := j.writePart(p, own)
		if err != nil {
			j.note(fmt.Sprintf("this node's part of the checkpoint of step %d is not stored: %v", step, err))
			return
		}
		p.manifest = manifest
		j.parts.put(p)
	})
	return nil
}

// put notes a part, in place of what was known of it.
func (ps *parts) put(p part) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.done = slices.DeleteFunc(ps.done, func(o part) bool { return o.round == p.round })
	ps.done = append(ps.done, p)
	ps.done = ps.done[max(0, len(ps.done)-keptParts):]
	if ps.changed != nil {
		close(ps.changed)
		ps.changed = nil
	}
}

func (ps *parts) find(round uint64, commit cid.Cid) (part, bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.done {
		if p.round == round && p.commit == commit {
			return p, true
		}
	}
	return part{}, false
}

func (j *Job) writePart(p part, own []trainer.Moments) (cid.Cid, error) {
	m := &shard.Manifest{Version: shard.ManifestVersion, Kind: shard.KindCheckpoint, Meta: map[string]string{metaJob: j.task.ID.String(), metaPart: "moments"}}
	for i := range own {
		f, err := shard.WriteFile(j.ctx, shard.Deferred(j.Store), momentsPath(own[i].Chunk), momentsReader(&own[i]))
		if err != nil {
			return cid.Undef, err
		}
		m.Files = append(m.Files, f)
		own[i] = trainer.Moments{} // the memory is free as soon as it is on disk
	}
	c, err := shard.SaveManifest(j.ctx, j.Store, m)
	if err != nil {
		return cid.Undef, err
	}
	if err := j.pin(fmt.Sprint(pinPart, p.round), c); err != nil {
		return cid.Undef, err
	}
	for _, old := range j.parts.before(p.round) {
		j.unpin(fmt.Sprint(pinPart, old))
	}
	return c, nil
}

// before lists the rounds whose parts nobody needs any more, and forgets them.
func (ps *parts) before(round uint64) (old []uint64) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for len(ps.pinned) >= keptParts {
		old, ps.pinned = append(old, ps.pinned[0]), ps.pinned[1:]
	}
	ps.pinned = append(ps.pinned, round)
	return old
}

func momentsReader(m *trainer.Moments) io.Reader {
	rs := []io.Reader{bytes.NewReader(binary.LittleEndian.AppendUint64(nil, m.Count))}
	for _, v := range vectorsOf(m) {
		rs = append(rs, newFloatReader(*v))
	}
	return io.MultiReader(rs...)
}

// readMoments reads a chunk's state from a checkpoint; false: it has none.
func readMoments(ctx context.Context, g shard.Getter, m *shard.Manifest, chunk int, t *trainer.Trainer) (x trainer.Moments, ok bool, err error) {
	f, ok := m.File(momentsPath(chunk))
	if !ok {
		return x, false, nil
	}
	x = t.Blank(chunk)
	n := 8 + 4*(len(x.M)+len(x.V)+len(x.W))
	if short := n - 4*len(x.W); f.Size == uint64(short) { // the shared weights were those that are stepped
		n, x.W = short, nil
	}
	if f.Size != uint64(n) {
		return x, false, fmt.Errorf("%s has %d bytes, want %d", f.Path, f.Size, n)
	}
	b := make([]byte, n)
	if _, err := shard.NewReader(ctx, g, f).ReadAt(b, 0); err != nil && err != io.EOF {
		return x, false, err
	}
	x.Count = binary.LittleEndian.Uint64(b)
	b = b[8:]
	for _, v := range vectorsOf(&x) {
		decodeFloats(*v, b[:4*len(*v)])
		b = b[4*len(*v):]
	}
	return x, true, nil
}

// gatherParts lists the optimizer state of all chunks after a commit, as far as their owners give it, with its blocks
// here.
func (j *Job) gatherParts(ctx context.Context, round uint64, commit cid.Cid) ([]shard.File, error) {
	mine, ok := j.parts.find(round, commit)
	if !ok {
		return nil, errors.New("it is not known here who stepped it")
	}
	owners := slices.Clone(mine.owners)
	slices.Sort(owners)
	var mu sync.Mutex
	var files []shard.File
	var failed error
	var wg sync.WaitGroup
	for _, o := range slices.Compact(owners) {
		wg.Go(func() {
			fs, err := j.part(ctx, o, partAsk{Round: round, Commit: commit})
			here := j.reaches(o)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && here:
				failed = fmt.Errorf("optimizer state of %s: %w", o, err)
			case err != nil:
				j.note(fmt.Sprintf("checkpoint of step %d is without the optimizer state of %s: %v", round, o, err))
			}
			fs = slices.DeleteFunc(fs, func(f shard.File) bool { return !ownedBy(mine.owners, o, f.Path) })
			files = append(files, fs...)
		})
	}
	wg.Wait()
	slices.SortFunc(files, func(a, b shard.File) int { return strings.Compare(a.Path, b.Path) })
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return files, failed
}

// reaches says whether a member can be asked.
func (j *Job) reaches(id record.PeerID) bool {
	return id == j.moments.self || slices.Contains(j.connected(), id)
}

// ownedBy says whether path is of a chunk that o stepped.
func ownedBy(owners []record.PeerID, o record.PeerID, path string) bool {
	for c, owner := range owners {
		if owner == o && path == momentsPath(c) {
			return true
		}
	}
	return false
}

// part brings an owner's part of a checkpoint here.
func (j *Job) part(ctx context.Context, owner record.PeerID, q partAsk) ([]shard.File, error) {
	ctx, cancel := context.WithTimeout(ctx, partWait)
	defer cancel()
	a, err := j.askPart(ctx, owner, q)
	if err != nil {
		return nil, err
	}
	if err := a.err(); err != nil {
		return nil, err
	}
	m, err := j.fetchManifest(ctx, a.Manifest, []record.PeerID{owner})
	if err != nil {
		return nil, err
	}
	if m.Kind != shard.KindCheckpoint || m.Meta[metaPart] == "" {
		return nil, fmt.Errorf("%s is not part of a checkpoint", a.Manifest)
	}
	return m.Files, nil
}

func (j *Job) askPart(ctx context.Context, owner record.PeerID, q partAsk) (partAnswer, error) {
	if owner == j.moments.self {
		return j.partOf(ctx, q), nil
	}
	id, answers := j.parts.asks.begin()
	defer j.parts.asks.end(id)
	q.ID = id
	b, err := record.Encode(q)
	if err == nil {
		err = j.Host.Control().Send(owner, j.topic(topicPartAsk), b)
	}
	if err != nil {
		return partAnswer{}, err
	}
	for {
		select {
		case a := <-answers:
			return a, nil
		case <-time.After(time.Second):
			if !j.reaches(owner) {
				return partAnswer{}, errors.New("it is gone")
			}
		case <-ctx.Done():
			return partAnswer{}, ctx.Err()
		}
	}
}

func (a partAnswer) err() error {
	if a.Why == "" && a.Manifest.Defined() {
		return nil
	}
	return fmt.Errorf("it has no part: %.*s", maxWhy, a.Why)
}

// partOf waits for this node's part to be written.
func (j *Job) partOf(ctx context.Context, q partAsk) partAnswer {
	for {
		changed := j.parts.change()
		p, ok := j.parts.find(q.Round, q.Commit)
		switch {
		case p.manifest.Defined():
			return partAnswer{ID: q.ID, Manifest: p.manifest}
		case !ok && j.parts.newer(q.Round):
			return partAnswer{ID: q.ID, Why: "the job has gone on"}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return partAnswer{ID: q.ID, Why: "it is not written yet"}
		}
	}
}

// change is closed when a part is begun or written.
func (ps *parts) change() <-chan struct{} {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.changed == nil {
		ps.changed = make(chan struct{})
	}
	return ps.changed
}

// newer says whether a part of a later round was begun.
func (ps *parts) newer(round uint64) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.done) > 0 && ps.done[len(ps.done)-1].round > round
}

// askedForPart answers a request for this node's part of a checkpoint when it is written.
func (j *Job) askedForPart(from record.PeerID, payload []byte) {
	var q partAsk
	if err := record.Decode(payload, &q); err != nil {
		j.log.Warn("dropped a malformed request for a part of a checkpoint", "from", from, "err", err)
		return
	}
	answer := func(a partAnswer) {
		if b, err := record.Encode(a); err == nil {
			j.sendRaw(from, topicPartAnswer, b)
		}
	}
	select {
	case j.lending <- struct{}{}:
		j.loops.Go(func() {
			defer func() { <-j.lending }()
			ctx, cancel := context.WithTimeout(j.ctx, partWait/2)
			defer cancel()
			answer(j.partOf(ctx, q))
		})
	default: // the next checkpoint comes
		answer(partAnswer{ID: q.ID, Why: "busy with other requests"})
	}
}
