package worker

import (
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// In a diloco job the trainer is busy with a piece for as long as a round takes. What happens meanwhile: the others learn
// this node's pace after a few steps, not after the whole piece, and a piece that cannot count any more is given up.

// Progressed implements trainer.Progress.
func (r *rounds) Progressed(rows int) {
	if r.told != nil {
		r.told(rows)
	}
}

// vain tells whether the piece that the trainer works on cannot count under a plan: its round is over, or begins anew.
// Called with mu held.
func (r *rounds) vain(p *collective.Plan) bool {
	w := r.works
	if !r.busy || w.Round > p.Round {
		return false
	}
	mine := collective.PieceID{Round: w.Round, Attempt: w.Attempt, Member: r.self.ID, Boot: r.self.Boot}
	return !slices.Contains(p.Pieces, mine)
}

// startRound puts a plan in force.
func (j *Job) startRound(s coord.Start) {
	r := j.rounds
	r.mu.Lock()
	vain := r.vain(s.Plan)
	r.mu.Unlock()
	r.start(s)
	if vain && j.task.Spec.Parallel.Sync == job.DiLoCo {
		j.state.interrupt()
	}
}

// paceEvery lies between two measurements within a piece.
const paceEvery = 2 * time.Second

// progress measures the pace while a piece is made.
func (p *pace) progress(rows int) (rate float64, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == 0 {
		return 0, false
	}
	p.done += uint64(rows)
	took := time.Since(p.began)
	if took < p.looked+paceEvery {
		return 0, false
	}
	p.looked = took
	return p.sample(float64(p.done) / took.Seconds())
}

// finished tells whether the job's last step is done.
func (j *Job) finished(r trainer.StepReport) bool { return r.Progress() == j.trainer.Steps() }
