package worker

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/shard/store"
)

// Export writes the result of a task, as far as this node has it, into dir: the best measured weights where the job keeps
// those and this node measured them, else the newest settled ones. as is "lora", "merged" or "full". It loads
// a trainer of its own, so a job that is running goes on.
func (r *Runtime) Export(ctx context.Context, t task.Task, as, dir string) error {
	manifest, err := resultOf(ctx, r.deps.Store, t)
	if err != nil {
		return err
	}
	j := &Job{Deps: r.deps, runtime: r, task: t, log: r.deps.Log, ctx: ctx}
	m, err := j.openMaterials(ctx)
	if err != nil {
		return fmt.Errorf("the job's model and data are not complete on this node: %w", err)
	}
	tr, err := j.idleTrainer(m)
	if err != nil {
		return err
	}
	defer tr.Close()
	s, err := loadSnapshot(ctx, j.Store, t.ID, manifest, tr.Elems())
	if err != nil {
		return err
	}
	if err := tr.Restore(s.State); err != nil {
		return err
	}
	return tr.Export(dir, as)
}

// resultOf is the checkpoint that is the result.
func resultOf(ctx context.Context, s *store.Store, t task.Task) (cid.Cid, error) {
	if t.Spec.Eval.KeepBest {
		pins, err := s.Pins(ctx, areaPrefix+t.ID.String()+"/"+pinBest)
		if err != nil || len(pins) > 0 {
			return rootOf(pins), err
		}
	}
	return newestCheckpoint(ctx, s, t.ID)
}

func rootOf(pins []store.Pin) cid.Cid {
	if len(pins) == 0 {
		return cid.Undef
	}
	return pins[0].Root
}
