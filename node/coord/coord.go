// Package coord is the coordination of one job as a deterministic state machine, and nothing else: no clock,
// socket or goroutine. Every member of a job runs one Machine per job; it contains this node's seat in the job's
// replicated log (p2p/replog), if it has one. Events go in through Step, effects come out of it, and node/worker
// performs them in order. A Machine is not safe for concurrent use: one loop owns it.
//
// # Words
//
// The job's log is a chain of signed entries (entry.go): Plan, Cut, Totals, Commit, Settle, Members, Reset and Cancel. An
// entry whose Header.Parent is not the job's head when it is committed is void, so whatever a leader proposed under an
// outdated view of the job has no effect. Keepers are the members that vote on the log; their raft leader is the job's
// leader. It makes plans, cuts and commits from what members report in control messages (message.go). Members that do
// not vote follow the log through entries that the leader pushes to them.
//
// Position s of a job is an index into its sample stream: optimizer step r works on [(r-1)·Batch, min(r·Batch,
// Samples)). Round r is optimizer step r, but in diloco jobs (diloco.go), where it takes what its plan hands out; round 0 is the state that the spec alone determines. A member's state is the
// weights and moments after a round; it is named by the round and the CID of the round's commit.
//
// # A round
//
//	Plan      who works on which positions, who owns which chunks (plan.go, owners.go)
//	Have      owners tell the leader which pieces they hold, and Σg² over them
//	Cut       as soon as pieces that every owner holds cover the batch, each position once: those count (cut.go)
//	Totals    in the cut, or after it when an owner had summed another set; owners send results
//	Ack       members tell the leader the hashes of the whole result
//	Commit    when more than half of the working members acknowledged the same; it carries the next plan (commit.go)
//
// What members did not deliver by the deadline (deadline.go), or because they are gone, is planned again in attempt + 1:
// pieces that may still count stay listed, missing positions go to other members, the chunks of a lost owner go to its
// successor (attempt.go). Members beat to the leader with their state; one whose weights have another hash than most, or
// that missed a round's result, is syncing: it receives results, owns and computes nothing until it has the state.
//
// # A pipeline
//
// Where Genesis.Pipeline says so, working members sit in stages (stages.go, arrange.go), and one piece of each has no positions
// in the plan: members compute what p2p/pipe brings them, and tell the leader what they have finished (flow.go). When every
// stage has every micro-batch once the leader seals the round (book.go); the cut says which positions each piece holds,
// and counts the batch once in every stage. Without a member that is lost before the seal the others go on in the same pipe.
// docs/decisions/stages-in-rounds.md has the reasons.
//
// # What lasts
//
// Every CheckpointEvery rounds and after the last one two members write a checkpoint; their receipts settle it
// (settle.go). The spine (spine.go) is the few entries that make the present state; it is saved after each entry.
//
// # When keepers are lost
//
// While a majority lives, the leader replaces keepers that are gone (keepers.go). A member that sees no majority for
// the grace asks all others how they stand (court.go); the first of them writes a Reset, the beginning of a new
// generation that goes on from the newest commit whose state is still there, and all its keepers sign it (reset.go).
// Logs that parted compare themselves when they meet, and one side follows the other (heal.go).
//
// # Going back
//
// A person may order at the submitter that the job goes on from a checkpoint (order.go): a Reset that the submitter alone
// signs and keeps, and that wins over every log without it. When round after round is not finite, the leader writes a Reset
// to the last settled checkpoint and puts the batches since then off to the end of the run (diverge.go, stream.go).
//
// This is crash-fault tolerance with signed evidence, not Byzantine consensus: members may stop, stall, return and be cut
// off at any moment, and whatever they send is bounded and checked before it is used, but keepers are trusted to follow
// the protocol.
package coord

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// TickEvery is how often the loop that owns a Machine should step a Tick. The log's heartbeats and elections count
// ticks, so a loop that hangs loses the lead.
const TickEvery = 50 * time.Millisecond

// StagedResults is how many results (Reduced) the worker keeps that no Finish has named yet; the oldest goes first. A
// member that is restoring its state catches up from them.
const StagedResults = 4

// Genesis is what a job's spec fixes for coordination.
type Genesis struct {
	Job             cid.Cid
	Submitter       record.PeerID
	Rows            uint64 // positions of the training data
	Batch           uint64 // sequences per optimizer step
	MicroBatch      int
	Steps           uint64 // total optimizer steps
	Samples         uint64 // stream length: Steps·Batch, or less when the last step is smaller
	Inner           uint64 // diloco: optimizer steps that a member takes in a round; 0: allreduce, a round is one step of all
	Chunks          []collective.Chunk
	Codec           exact.Codec // in which pieces and results travel
	OwnersStep      bool        // the result is what owners make of the sums (zero.go)
	Weights         int         // with OwnersStep: chunks that hold weights; 0: all
	Slack           int         // of layout.Shared, for the chunks' owners; 0: layout.Slack
	MinPeers        int
	MaxPeers        int // 0: no limit
	CheckpointEvery uint64
	BadRounds       uint64    // so many rounds in a row whose sum is not finite make the job go back; 0: it never does
	Again           bool      // a piece that is not finite is computed once more by another member
	Pipeline        *Pipeline // nil: every member computes the whole model
	Ordered         uint64    // the newest order to go on that this node knows of: a log without it is not the job's any more
}

// Self is this node in this run.
type Self struct {
	ID   record.PeerID
	Boot uint64
	Signer
}

// Signer signs what this node says and checks what others say. Keys is the real one.
type Signer interface {
	Sign(h record.Header, body any) (*record.Signed, cid.Cid, error)
	Open(s *record.Signed) (*record.Record, cid.Cid, error)
}

// Capability is what a node says of itself when it joins a job.
type Capability struct {
	RowsPerSec  float64 `cbor:"1,keyasint"` // measured sequences per second; 0: not measured yet
	BytesPerSec float64 `cbor:"2,keyasint"` // measured or guessed rate of the network; 0: unknown
	MemBytes    int64   `cbor:"3,keyasint"`
	Versions    []int   `cbor:"4,keyasint"`           // protocol versions it speaks
	Relayed     bool    `cbor:"5,keyasint,omitempty"` // most others reach it through relays alone
}
