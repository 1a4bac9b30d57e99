// Package coord is the coordination of one job as a deterministic state machine, and nothing else: no clock,
// socket or goroutine. Every member of a job runs one Machine per job; it contains this node's seat in the job's
// replicated log (p2p/replog), if it has one. Events go in through Step, effects come out of it, and node/worker
// performs them in order. A Machine is not safe for concurrent use: one loop owns it.
//
// Words. The job's log is a chain of signed entries (entry.go): Plan, Cut, Totals, Commit, Settle, Members, Reset and
// Cancel. An entry whose Header.Parent is not the job's head when it is committed is void, so whatever a leader
// proposed under an outdated view of the job has no effect. Keepers are the members that vote on the log; their raft
// leader is the job's leader. It makes plans, cuts and commits from what members report in control messages
// (message.go). Members that are not keepers follow the log through entries that the leader pushes to them.
//
// A round goes plan, Have, cut, totals, Ack, commit (plan.go, cut.go, commit.go). What members did not deliver by the
// deadline (deadline.go) is planned again in attempt + 1. The commit carries the next plan. A member that has no log
// with a living majority for a while takes part in a Reset (reset.go): a new generation that starts from a commit or a
// settled checkpoint. Logs that parted meet again by the rule of heal.go.
//
// Position s of a job is an index into its sample stream: optimizer step r works on [(r-1)·Batch, min(r·Batch,
// Samples)). Round r is optimizer step r; round 0 is the state that the spec alone determines.
package coord

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
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
	Chunks          []collective.Chunk
	MinPeers        int
	MaxPeers        int // 0: no limit
	CheckpointEvery uint64
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
	RowsPerSec  float64 `cbor:"1,keyasint"` // measured or guessed sequences per second
	BytesPerSec float64 `cbor:"2,keyasint"` // measured or guessed rate of the network; 0: unknown
	MemBytes    int64   `cbor:"3,keyasint"`
	Versions    []int   `cbor:"4,keyasint"` // protocol versions it speaks
}
