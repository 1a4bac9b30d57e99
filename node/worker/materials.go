package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// materials are what a job learns from, complete on this node.
type materials struct {
	model, adapter model.Files
	rows, held     trainer.Rows // held: nil where nothing was held out
}

// materials fetches and pins the job's model and data, from whoever has them. It keeps trying while the node is up:
// the submitter may be away and another member not known yet.
func (j *Job) materials(ctx context.Context) (*materials, error) {
	t := &j.task.Terms
	for _, c := range []cid.Cid{t.Model, t.Data, t.Held, t.Adapter, t.Exam} {
		if !c.Defined() {
			continue
		}
		if err := j.pin(pinMaterials, c); err != nil {
			return nil, err
		}
		if c == t.Model && j.task.Spec.Parallel.Staged() {
			continue
		}
		if err := j.obtain(ctx, c); err != nil {
			return nil, err
		}
	}
	if j.task.Spec.Parallel.Staged() {
		if err := j.obtainPart(ctx, model.Part{}, true); err != nil {
			return nil, err
		}
	}
	return j.openMaterials(ctx)
}

// obtain fetches what a manifest names until it is all here.
func (j *Job) obtain(ctx context.Context, c cid.Cid) error {
	return j.insist(ctx, func() error {
		_, err := j.fetchManifest(ctx, c, nil)
		return err
	})
}

// insist does what needs others until it succeeds.
func (j *Job) insist(ctx context.Context, fetch func() error) error {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := fetch()
		if err == nil || ctx.Err() != nil || errors.Is(err, shard.ErrFull) || errors.Is(err, record.ErrBad) {
			return err
		}
		j.note(fmt.Sprintf("waiting for somebody who has the job's model and data: %v", err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openMaterials opens what is here.
func (j *Job) openMaterials(ctx context.Context) (*materials, error) {
	var m materials
	t := &j.task.Terms
	files, err := j.files(ctx, t.Model)
	if err != nil {
		return nil, err
	}
	m.model = files
	if t.Adapter.Defined() {
		if files, err = j.files(ctx, t.Adapter); err != nil {
			return nil, err
		}
		m.adapter = files
	}
	rows, err := j.openRows(ctx, t.Data)
	if err != nil {
		return nil, err
	}
	if uint64(rows.Rows()) != t.Rows {
		return nil, fmt.Errorf("the job's data has %d rows, its terms say %d", rows.Rows(), t.Rows)
	}
	m.rows = rows
	if t.Held.Defined() {
		if m.held, err = j.openRows(ctx, t.Held); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

func (j *Job) openRows(ctx context.Context, c cid.Cid) (trainer.Rows, error) {
	m, err := shard.LoadManifest(ctx, j.reader(), c)
	if err != nil {
		return nil, err
	}
	return data.Open(ctx, j.reader(), *m)
}

func (j *Job) files(ctx context.Context, c cid.Cid) (*shard.Files, error) {
	m, err := shard.LoadManifest(ctx, j.reader(), c)
	if err != nil {
		return nil, err
	}
	return shard.OpenFiles(ctx, j.reader(), m), nil
}

// reader reads the job's blocks.
func (j *Job) reader() shard.Getter { return healing{j} }

// healing is the store of a job whose blocks are all here, where one that the disk spoilt is fetched anew from whoever
// has it.
type healing struct{ j *Job }

// healTime bounds the search for a donor: the read that waits for it may hold up a round.
const healTime = 20 * time.Second

func (h healing) Get(ctx context.Context, c cid.Cid) ([]byte, error) {
	b, err := h.j.Store.Get(ctx, c)
	spoilt := errors.Is(err, shard.ErrCorrupt) || errors.Is(err, shard.ErrNotFound) // the latter after a heal in vain
	if !spoilt || h.j.Store.Err() != nil {                                          // a store that gave up heals nothing
		return b, err
	}
	hctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	b, herr := h.j.Blocks.Heal(hctx, c, h.j.connected())
	if herr != nil {
		return nil, errors.Join(err, herr)
	}
	return b, nil
}

// connected are all peers.
func (j *Job) connected() (all []record.PeerID) {
	for _, p := range j.Host.Peers() {
		all = append(all, p.ID)
	}
	return all
}

// fetchManifest makes a manifest and all its blocks present here. Donors are asked first, then every connected peer.
func (j *Job) fetchManifest(ctx context.Context, c cid.Cid, donors []record.PeerID) (*shard.Manifest, error) {
	from := func() []record.PeerID {
		return append(slices.Clone(donors), j.connected()...)
	}
	if err := j.Blocks.Fetch(ctx, []cid.Cid{c}, from, nil); err != nil {
		return nil, err
	}
	m, err := shard.LoadManifest(ctx, j.reader(), c)
	if err != nil {
		return nil, err
	}
	return m, j.Blocks.Fetch(ctx, m.Blocks(), from, nil)
}
