package worker

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// evaluate measures the weights of step on the held-out rows, if that is due here, while training goes on.
func (j *Job) evaluate(step uint64) {
	every := uint64(j.task.Spec.Eval.EverySteps)
	if j.held == nil || step != j.trainer.Steps() && (every == 0 || step%every != 0) {
		return
	}
	finish, err := j.trainer.StartEval(j.ctx, j.held)
	if err != nil {
		j.note(fmt.Sprintf("held-out rows are not measured at step %d: %v", step, err))
		return
	}
	j.work.Go(func() {
		r, err := finish(j.ctx)
		if err != nil {
			j.note(fmt.Sprintf("held-out rows are not measured at step %d: %v", step, err))
			return
		}
		j.report(task.Evaluated{EvalReport: r})
	})
}
