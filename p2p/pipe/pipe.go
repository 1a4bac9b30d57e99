// Package pipe carries a micro-batch through the stages of a model that lies on several members, and back.
//
// A stage is a run of units; each of its replicas holds all of it. A micro-batch begins at a replica of stage 0, its home.
// Forward, a member hands the residual stream of the micro-batch, (rows, cols), to a replica of the next stage, the one
// that it expects to be done first; backward the gradient of the same tensor returns the same way. A Frame is one such
// tensor. It names the plan it was computed under, so that a frame of another round or attempt is refused without being
// read.
//
// A round at one member is the state machine Machine, which has no clock, socket or goroutine:
//
//	Task      what to compute now: what came back before what goes forward, the oldest first
//	Computed  the task is done, with its result
//	Receive   a frame of a peer
//	Lost      a member does not count any more, its sum is lost
//
// and effects go out: Send (a frame), Finished (a micro-batch is part of this member's sum). A Book, at whoever leads
// the round, knows from these and the losses whether every stage has every micro-batch once.
//
// What is alive is bounded: a member lets no more than Plan.Live micro-batches go forward that have not come back, and
// sends a replica no more than one more than that can keep alive, and what is on the lines (Narayanan et al. 2021, arXiv:2104.04473, section 2.2,
// for a single replica per stage). A replica that is slower gets less: where the fastest has no room a micro-batch waits for it, unless a
// slower one would be done earlier (Ryabinin et al. 2023, arXiv:2301.11913).
//
// When a member is lost its micro-batches are computed again in its stage, those too that it had finished. So everyone
// keeps what it gave to both sides until the round is over, and is asked for no pass twice. Whoever had sent a
// micro-batch to the lost one sends it to another replica, marked Again. That one Asks the next stage who has the
// micro-batch already; if somebody does, that is where the gradient comes from, and else it goes on as usual. An Ask
// names the lost members, so that nothing of theirs is taken after it was answered. A gradient that comes a second
// time is dropped. So of the members that are not lost, one at most has a micro-batch in each stage, which is why it counts once.
//
// Machine is not safe for concurrent use. Slices that are handed over are shared and never written again.
package pipe

import (
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Key says under which plan something was sent.
type Key = collective.Key

// Kind of a frame.
type Kind uint8

const (
	Forward  Kind = 1 // activations, to the next stage
	Backward Kind = 2 // their gradient, to the stage before
	Ask      Kind = 3 // to the next stage: this member has the micro-batch now; have you?
	Answer   Kind = 4 // to the stage before
)

func (k Kind) String() string {
	if k < Forward || k > Answer {
		return "unknown"
	}
	return [...]string{"forward", "backward", "ask", "answer"}[k-1]
}

// Frame is what one member tells another about a micro-batch. Data must not be changed by anybody after it was handed over.
type Frame struct {
	Key
	Kind  Kind
	Micro uint32
	From  uint32          // the sender's stage
	Again bool            // Forward: somebody had it in this stage before
	Has   bool            // Answer
	Lost  []record.PeerID // Ask: members that the sender knows to be lost
	Pace  time.Duration   // Backward: of a micro-batch at the sender
	Load  uint32          // Backward: micro-batches that the sender has from others
	Data  []float32       // Forward and Backward; a Backward without says that nothing before the sender's stage learns
}
