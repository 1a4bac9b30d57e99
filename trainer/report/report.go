// Package report shows what a training did, in the forms that people look at: event files that TensorBoard reads
// (events.go), curves as SVG pictures (svg.go) and as text (text.go).
//
// All of it is pure functions from numbers to bytes; who calls them opens files and decides when.
package report

import (
	"math"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer"
)

// Step is the event of an optimizer step of a run that began at start. What was skipped has no loss to show.
func Step(r trainer.StepReport, start time.Time) Event {
	e := Event{At: after(start, r.Time), Step: r.Step}
	if !r.Skipped {
		e.Scalars = append(e.Scalars, Scalar{"train/loss", r.Loss}, Scalar{"train/grad_norm", r.GradNorm})
	}
	e.Scalars = append(e.Scalars, Scalar{"train/learning_rate", r.LR}, Scalar{"train/tokens", float64(r.Tokens)},
		Scalar{"train/peers", float64(r.Peers)})
	if r.LossScale != 0 {
		e.Scalars = append(e.Scalars, Scalar{"train/loss_scale", r.LossScale}, Scalar{"train/skipped_steps", float64(r.Passed)})
	}
	return e
}

// Measured is the event of a measurement, seconds after the run's start.
func Measured(r trainer.EvalReport, start time.Time, seconds float64) Event {
	e := Event{At: after(start, seconds), Step: r.Step}
	if r.Tokens > 0 {
		e.Scalars = append(e.Scalars, Scalar{"eval/loss", r.Loss}, Scalar{"eval/perplexity", r.Perplexity}, Scalar{"eval/accuracy", r.Accuracy})
	}
	if r.BaseLoss != 0 {
		e.Scalars = append(e.Scalars, Scalar{"eval/base_loss", r.BaseLoss})
	}
	for _, t := range r.Tasks {
		e.Scalars = append(e.Scalars, Scalar{"eval/" + t.Name, t.Accuracy})
	}
	return e
}

// after is a moment of a run, seconds from its start; nonsense is the start itself.
func after(start time.Time, seconds float64) time.Time {
	if !(seconds >= 0 && seconds < math.MaxInt32) {
		return start
	}
	return start.Add(time.Duration(seconds * float64(time.Second)))
}
