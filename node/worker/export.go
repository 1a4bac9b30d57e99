package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// Export writes the result of a task, as far as this node has it, into dir: the best measured weights where the job keeps
// those, else the newest settled ones. as is "lora", "merged" or "full". It loads
// a trainer of its own, so a job that is running goes on.
func (r *Runtime) Export(ctx context.Context, t task.Task, as, dir string) error {
	j := &Job{Deps: r.deps, runtime: r, task: t, log: r.deps.Log, ctx: ctx}
	manifest, err := j.result(ctx)
	if err != nil {
		return err
	}
	m, err := j.openMaterials(ctx)
	if err != nil {
		return fmt.Errorf("the job's model and data are not complete on this node: %w", err)
	}
	if err := j.openScratch(); err != nil {
		return err
	}
	defer j.closeScratch()
	tr, err := j.idleTrainer(m)
	if err != nil {
		return err
	}
	defer tr.Close()
	s, err := loadSnapshot(ctx, j.reader(), t.ID, manifest, tr.Elems())
	if err != nil {
		return err
	}
	if err := tr.Restore(s.State); err != nil {
		return err
	}
	return tr.Export(dir, as)
}

// result makes the checkpoint that is the result complete here: the best, where the job keeps it, else the newest that was settled, from its holders if need be.
func (j *Job) result(ctx context.Context) (cid.Cid, error) {
	list, err := j.checkpoints(ctx)
	if err != nil {
		return cid.Undef, err
	}
	var newest *known
	for i := range list {
		k := &list[i]
		if k.Best && j.task.Spec.Eval.KeepBest {
			newest = k
			break
		}
		if k.Settled || k.Here && !k.Best {
			newest = k
		}
	}
	if newest == nil {
		return cid.Undef, errors.New("the job has no checkpoint yet")
	}
	if _, err := j.fetchManifest(ctx, newest.manifest, newest.Holders); err != nil {
		return cid.Undef, fmt.Errorf("the checkpoint of step %d is not complete here, and nobody connected has the rest: %w", newest.Step, err)
	}
	return newest.manifest, nil
}
