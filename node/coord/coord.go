// Package coord is the coordination of one job as a deterministic state machine, and nothing else: no clock,
// socket or goroutine. Every member of a job runs one Machine per job. Log entries, peers, messages and ticks go in;
// effects come out, and node/worker performs them.
//
// Agreement. The job's log (p2p/replog) orders entries; an entry whose Header.Parent is not the job's head when it is
// committed is void. The entries are Plan, Cut, Totals, Commit, Settle, Members, Reset and Cancel (entry.go). The raft
// leader is the job's leader: it makes plans, cuts and commits from what members report. See docs/protocol.md.
package coord

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

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
}

// Capability is what a node says of itself when it joins a job. It travels signed.
type Capability struct {
	Peer       record.PeerID
	Boot       uint64
	RowsPerSec float64 // measured or guessed sequences per second
	MemBytes   int64
	Versions   []int // protocol versions it speaks
}

// Event goes into the machine.
type Event interface{ event() }

type (
	// Tick tells time since the machine started; it never goes back.
	Tick struct{ Now time.Duration }
	// Applied is a log entry that raft committed, in order. Index counts within the generation.
	Applied struct {
		Index uint64
		Entry *record.Signed
	}
	// Leader tells who leads the log now; empty: nobody known.
	Leader struct {
		ID   record.PeerID
		Boot uint64
		Term uint64
	}
	// Peer tells that a connection to a peer came or went.
	Peer struct {
		ID record.PeerID
		Up bool
	}
	// Message is a signed control message of another member (bodies in message.go).
	Message struct{ Msg *record.Signed }
	// Held is what the local collective holds as an owner.
	Held struct{ Have collective.Have }
	// Reduced says that the local collective has the complete result of a cut.
	Reduced struct{ Done collective.Done }
	// Stepped says that the trainer stepped a commit; Hash is over weights and moments.
	Stepped struct {
		Round uint64
		Hash  collective.Hash
	}
	// Restored says that a Fetch succeeded: this node's state is that of Round.
	Restored struct{ Round uint64 }
	// Stored says that the checkpoint of a WriteCheckpoint is on this node's disk.
	Stored struct {
		Round    uint64
		Manifest cid.Cid
	}
	// Failed says that the local worker cannot go on (out of memory, bad data); the node leaves the job.
	Failed struct{ Why string }
	// Leave asks for a clean leave (SIGTERM).
	Leave struct{}
)

// Effect comes out of the machine; the caller performs them in order.
type Effect interface{ effect() }

type (
	// Propose asks the log to append an entry; ignored by a node that does not lead.
	Propose struct{ Entry *record.Signed }
	// Send delivers a control message, at most once, in order per peer.
	Send struct {
		To  record.PeerID
		Msg *record.Signed
	}
	// Start puts a plan or a further attempt in force: collective.Machine.Plan, then the trainer gets Work (maybe empty).
	Start struct {
		Plan  *collective.Plan
		Work  []shard.Range // this member's new positions (stream indexes)
		Peers int
	}
	// Cut tells the local collective which pieces count.
	Cut struct {
		Key collective.Key
		Set []collective.Mark
	}
	// Release tells it the totals: owners send results.
	Release struct {
		Key    collective.Key
		Totals collective.Totals
		Peers  int
	}
	// Finish: the round is committed; the trainer steps and Commit names the result's unit hashes. A member whose staged
	// result has other hashes, or none, must fetch.
	Finish struct {
		Key    collective.Key
		Commit cid.Cid
		Units  []collective.Hash
		Totals collective.Totals
		Peers  int
	}
	// Fetch brings this node's state (weights, moments, counters) to a commit, from any of the donors or from a settled
	// checkpoint's blocks.
	Fetch struct {
		Round    uint64
		Commit   cid.Cid
		Donors   []record.PeerID
		Manifest cid.Cid // of a checkpoint, when that is the way
	}
	// WriteCheckpoint stores the state of a commit as blocks and a manifest; Stored answers.
	WriteCheckpoint struct {
		Round  uint64
		Commit cid.Cid
	}
	// KeepCheckpoint pins a settled checkpoint's blocks, fetching what is missing from the holders.
	KeepCheckpoint struct {
		Round    uint64
		Manifest cid.Cid
		Holders  []record.PeerID
	}
	// SetKeepers changes the voters of the log, one at a time.
	SetKeepers struct{ Add, Remove []Self }
	// NewLog opens the log of a new generation after a Reset holds.
	NewLog struct {
		Generation uint32
		Reset      *record.Signed
		Keepers    []Self
	}
	// Publish repeats an entry on the swarm's gossip (at most 8 KiB).
	Publish struct{ Entry *record.Signed }
	// Rollback: the job continues from an earlier commit; metrics past it are removed.
	Rollback struct{ Round uint64 }
	// End: the job is over here.
	End struct {
		State string // "done", "cancelled", "failed", "left"
		Why   string
	}
	// Note is something a person should see (a line of `job logs`): who was left out and why, waiting for peers, ….
	Note struct{ Text string }
)
