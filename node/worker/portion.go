package worker

import (
	"context"
	"path"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// In a pipeline a member has of the model's blocks what it computes with, and what it computed with before; it gives these
// to others. A node that has all of them, as the submitter has, fetches nothing.

// obtainPart fetches what is missing of the model until all is here that a part reads: the heads of the weights' files,
// all other files, and the part's weights; fresh: what is trained besides. The zero Part has no weights.
func (j *Job) obtainPart(ctx context.Context, p model.Part, fresh bool) error {
	var m *shard.Manifest
	if err := j.insist(ctx, func() (err error) {
		if err = j.fetchBlocks(ctx, []cid.Cid{j.task.Terms.Model}); err != nil {
			return err
		}
		if m, err = shard.LoadManifest(ctx, j.reader(), j.task.Terms.Model); err != nil {
			return err
		}
		return j.fetchBlocks(ctx, headBlocks(m))
	}); err != nil {
		return err
	}
	files, err := j.files(ctx, j.task.Terms.Model)
	if err != nil {
		return err
	}
	var adapter model.Files
	if a := j.task.Terms.Adapter; a.Defined() {
		if adapter, err = j.files(ctx, a); err != nil {
			return err
		}
	}
	needs, err := trainer.Needs(&j.task.Spec, files, adapter, p, fresh)
	if err != nil {
		return err
	}
	return j.insist(ctx, func() error { return j.fetchBlocks(ctx, blocksOf(m, needs)) })
}

func (j *Job) fetchBlocks(ctx context.Context, cids []cid.Cid) error {
	return j.Blocks.Fetch(ctx, cids, func() []record.PeerID { return j.connected() }, nil)
}

// headBlocks are those of files that hold no weights, and the first of those that do: it says what lies where.
func headBlocks(m *shard.Manifest) (cids []cid.Cid) {
	for _, f := range m.Files {
		if path.Ext(f.Path) == ".safetensors" {
			cids = append(cids, f.Blocks[:min(1, len(f.Blocks))]...)
		} else {
			cids = append(cids, f.Blocks...)
		}
	}
	return cids
}

// blocksOf are the blocks that hold some bytes of files.
func blocksOf(m *shard.Manifest, needs []trainer.Extent) (cids []cid.Cid) {
	for _, e := range needs {
		f, ok := m.File(e.Path)
		if !ok || e.Hi <= e.Lo {
			continue
		}
		last := int((e.Hi - 1) / shard.MaxBlock)
		for i := int(e.Lo / shard.MaxBlock); i <= last && i < len(f.Blocks); i++ {
			cids = append(cids, f.Blocks[i])
		}
	}
	return cids
}
