package worker

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// Export writes the newest settled weights of a task on this node into dir: as is "lora", "merged" or "full". It loads
// a trainer of its own, so a job that is running goes on.
func (r *Runtime) Export(ctx context.Context, t task.Task, as, dir string) error {
	manifest, err := newestCheckpoint(ctx, r.deps.Store, t.ID)
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
