// Package trainer is the learning: it turns positions into gradients, agreed gradients into new weights, and
// weights into files. It knows nothing of peers; whoever it learns with stands behind Source and Collective.
//
// One round reads batch, forward, backward, reduce, cut, step, gather, in that order, in round.
//
// Words. The job's index space is everything that learns, one tensor behind the other (shard/layout). A contribution is
// the gradient summed over the target tokens of some positions, not divided by anything; its piece says which. State is
// the weights and both moments over the index space; it changes in Apply and Restore alone.
//
// Concurrency. Run belongs to one goroutine; everything else may be called meanwhile, Close too: it waits for the device
// work of the moment, gives all device memory back, and whatever comes later, or goes on, ends with ErrClosed.
package trainer

import (
	"context"
	"errors"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Work is what a plan asks of this member.
//
// Positions are stream indexes: sample s of the run, s = epoch·rows + i, is row perm(seed, epoch)[i] of the
// data manifest. Step t's batch is the stream range [(t-1)·B, t·B) cut at the end of the run.
type Work struct {
	Round     uint64        // optimizer step, from 1
	Attempt   uint32        // attempts after the first carry only positions whose work was lost
	Positions []shard.Range // may be empty: a member without work still reduces and steps

	// Diloco: how many positions counted in the rounds before, and how many all members have in this one.
	Done, Planned uint64
}

// Source hands out work. Next blocks until there is some and returns io.EOF after the last step of the job.
type Source interface {
	Next(ctx context.Context) (Work, error)
}

// Piece is one contribution: the sum over its positions alone, never changed once made.
type Piece struct {
	Round     uint64
	Attempt   uint32
	Positions []shard.Range
	Tokens    int64   // target tokens
	Loss      float64 // Σ loss over them
}

// Chunk is [Lo, Hi) of the job-wide index space with its values.
type Chunk struct {
	Lo, Hi int
	V      []float32
}

// Totals are what a cut knows about a step.
type Totals struct {
	Tokens    int64   // Σ w; 0: nothing to learn from, the step is skipped
	Loss      float64 // Σ loss
	SumSq     float64 // Σ u² of the summed contribution over every trainable element (before division by Tokens)
	NonFinite bool    // the step is skipped
	Peers     int     // members whose work counted
	Taken     uint64  // diloco: positions that counted in all rounds so far
}

var (
	// ErrAttempt: the round goes on under a new plan; missing positions come as new work from Source.
	ErrAttempt = errors.New("the round goes on under a new plan")
	// ErrExcluded: this member's state is not the job's; it must be restored before it works again.
	ErrExcluded = errors.New("this member is excluded from the round")
	// ErrClosed: the trainer was closed; there is no state any more.
	ErrClosed = errors.New("the trainer is closed")
)

// Collective averages vectors among the members that hold the same slot of a job. Calls block.
type Collective interface {
	// Reduce hands in one piece of this member's work: v is the sum over p's positions alone. It returns when the owners
	// hold it; v stays untouched until Gather returns nil or ErrExcluded, or the round is over. Pieces without
	// positions may share one v of zeros.
	Reduce(ctx context.Context, p Piece, v []float32) error
	// Cut waits until the job has agreed which pieces count and what they add up to, and returns this member's chunks
	// reduced over them.
	Cut(ctx context.Context, round uint64) (own []Chunk, t Totals, err error)
	// Gather sends own chunks to all and fills dst with the bits that every member shares: with zero 0 the reduced
	// gradient Σu/Σw. It returns when the round's commit is in the log.
	Gather(ctx context.Context, round uint64, own []Chunk, dst []float32) error
}

// StepReport is one committed optimizer step; it becomes a line of metrics.jsonl.
type StepReport struct {
	Step     uint64  `json:"step"`
	Loss     float64 `json:"loss"`      // before the update, mean over the batch's target tokens
	GradNorm float64 `json:"grad_norm"` // before clipping
	LR       float64 `json:"lr"`
	Tokens   int64   `json:"tokens"` // target tokens
	Time     float64 `json:"time"`   // seconds since the job started on this node
	Peers    int     `json:"peers"`
	Skipped  bool    `json:"skipped,omitempty"` // nothing to learn from, or not finite

	LossScale float64 `json:"loss_scale,omitempty"`    // of fp16: what losses of tokens were multiplied by
	Batches   uint64  `json:"batches,omitempty"`       // diloco, where Step counts rounds: how many batches of the job's were learned from so far
	Passed    int     `json:"skipped_steps,omitempty"` // steps skipped so far, this one among them
}

// Progress is how many of a job's steps are done: in diloco, where Step counts rounds, those of all members.
func (r StepReport) Progress() uint64 { return max(r.Step, r.Batches) }
