// Package pipe is the form in which activations and their gradients travel between the stages of a model.
//
// A stage is a run of units on one member. In the forward direction it hands the residual stream of a micro-batch,
// (rows, cols), to the member of the next stage; in the backward direction the gradient of the same tensor comes
// back. A Frame is one such tensor. It names the plan it was computed under, so that a frame of another round, attempt
// or pass is refused without being read. Receivers take frames in the order that the schedule asks for, not in
// the order of arrival; until then they wait, bounded by the number of micro-batches that the schedule keeps alive.
//
// This package fixes the form only. Everything in it is plain data.
package pipe

import "github.com/seed-7b27c88a/shoal/p2p/collective"

// Direction of a frame.
type Direction uint8

const (
	Forward  Direction = 1 // activations, to the next stage
	Backward Direction = 2 // their gradient, to the stage before
)

// ID names a tensor between two stages. Two frames with equal IDs carry equal bits.
type ID struct {
	Key       collective.Key // job, generation, round, attempt and plan
	Micro     uint32         // micro-batch within the member's work
	Pass      uint32         // of the objective: policy, reference, reward, …
	From      uint32         // stage that computed it
	Direction Direction
}

// Frame is a tensor on its way. Data, (Rows, Cols), must not be changed by anybody after it was handed over.
type Frame struct {
	ID
	Tokens     int // target tokens of the micro-batch
	Rows, Cols int
	Data       []float32
}
