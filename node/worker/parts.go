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
	partWait  = 20 * time.Second // for an owner to write its part, in all
	partAgain = time.Second      // between questions
)

// parts are what this node wrote of the newest checkpoints, and who else did.
type parts struct {
	asks asks[partAnswer]

	mu     sync.Mutex // guards the rest
	done   []part     // newest last, at most two
	pinned []uint64   // rounds, oldest first
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
	ps.done = ps.done[max(0, len(ps.done)-2):]
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
	for len(ps.pinned) > 1 {
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
	var wg sync.WaitGroup
	for _, o := range slices.Compact(owners) {
		wg.Go(func() {
			fs, err := j.part(ctx, o, partAsk{Round: round, Commit: commit})
			if err != nil {
				j.note(fmt.Sprintf("checkpoint of step %d is without the optimizer state of %s: %v", round, o, err))
			}
			fs = slices.DeleteFunc(fs, func(f shard.File) bool { return !ownedBy(mine.owners, o, f.Path) })
			mu.Lock()
			defer mu.Unlock()
			files = append(files, fs...)
		})
	}
	wg.Wait()
	slices.SortFunc(files, func(a, b shard.File) int { return strings.Compare(a.Path, b.Path) })
	return files, ctx.Err()
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
	for {
		c, err := j.askPart(ctx, owner, q)
		if err == nil {
			m, err := j.fetchManifest(ctx, c, []record.PeerID{owner})
			if err != nil {
				return nil, err
			}
			if m.Kind != shard.KindCheckpoint || m.Meta[metaPart] == "" {
				return nil, fmt.Errorf("%s is not part of a checkpoint", c)
			}
			return m.Files, nil
		}
		if !slices.Contains(append(j.connected(), j.moments.self), owner) {
			return nil, err
		}
		select {
		case <-time.After(partAgain):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (j *Job) askPart(ctx context.Context, owner record.PeerID, q partAsk) (cid.Cid, error) {
	if owner == j.moments.self {
		a := j.partOf(q)
		return a.Manifest, a.err()
	}
	id, answers := j.parts.asks.begin()
	defer j.parts.asks.end(id)
	q.ID = id
	b, err := record.Encode(q)
	if err == nil {
		err = j.Host.Control().Send(owner, j.topic(topicPartAsk), b)
	}
	if err != nil {
		return cid.Undef, err
	}
	select {
	case a := <-answers:
		return a.Manifest, a.err()
	case <-time.After(2 * partAgain):
		return cid.Undef, errors.New("no answer")
	case <-ctx.Done():
		return cid.Undef, ctx.Err()
	}
}

func (a partAnswer) err() error {
	if a.Why == "" && a.Manifest.Defined() {
		return nil
	}
	return fmt.Errorf("it has no part: %.*s", maxWhy, a.Why)
}

func (j *Job) partOf(q partAsk) partAnswer {
	a := partAnswer{ID: q.ID}
	if p, ok := j.parts.find(q.Round, q.Commit); !ok {
		a.Why = "it has not done that step"
	} else if a.Manifest = p.manifest; !p.manifest.Defined() {
		a.Why = "it is being written"
	}
	return a
}

// askedForPart answers requests for this node's part of a checkpoint.
func (j *Job) askedForPart(from record.PeerID, payload []byte) {
	var q partAsk
	if err := record.Decode(payload, &q); err != nil {
		j.log.Warn("dropped a malformed request for a part of a checkpoint", "from", from, "err", err)
		return
	}
	if b, err := record.Encode(j.partOf(q)); err == nil {
		j.sendRaw(from, topicPartAnswer, b)
	}
}
