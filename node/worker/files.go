package worker

import (
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/shard/scratch"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// openScratch makes room on disk for a job whose weights no memory has to hold (parallel.zero: 3). It is nil, memory, for
// other jobs, and where nobody said where that room is.
func (j *Job) openScratch() (err error) {
	p := j.task.Spec.Parallel
	if p.Zero == "3" && p.Offload != job.OffloadCPU && j.Scratch != "" {
		j.scratch, err = scratch.New(j.Scratch)
	}
	return err
}

// room is where the group keeps what a round needs.
func (j *Job) room() collective.Room {
	if j.scratch == nil {
		return nil
	}
	return j.scratch
}

// closeScratch gives the room back. Nothing of the job may be left.
func (j *Job) closeScratch() {
	if err := j.scratch.Close(); err != nil {
		j.log.Warn("vectors on disk", "err", err)
	}
}
