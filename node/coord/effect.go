package coord

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// Effect comes out of the machine; the caller performs them in order.
type Effect interface{ effect() }

type (
	// Send delivers a control message, at most once, in order per peer. A loss is repaired by the machine.
	Send struct {
		To  record.PeerID
		Msg *record.Signed
	}
	// SendLog delivers a message of the replicated log (LogMessage at the other side), at most once.
	SendLog struct {
		To      record.PeerID
		Payload []byte
	}
	// Start puts a plan or a further attempt in force: collective.Machine.Plan, then the trainer gets Work (maybe empty).
	// Work of an earlier attempt of the same round that is not done yet goes on. Work waits until the trainer's state is that
	// of the round before: a Finish or a Restored may be due first. A Start of a later round ends the wait.
	Start struct {
		Plan  *collective.Plan
		Work  []shard.Range // this member's new positions (stream indexes)
		Peers int           // planned members
		// Flow is this member's part of a pipeline; nil in any other job, and for a member that has none in this attempt: a
		// pipe that it had is over.
		Flow *Flow
		// Diloco: how many positions of the stream counted before this round, and how many its members have in all.
		Done, Planned uint64
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
		Peers  int    // members whose work counts
		Taken  uint64 // positions that will have counted
	}
	// Finish: the round is committed; the trainer steps with the staged result of Key, whose unit hashes are Units, and
	// answers Stepped. It is sent only when such a result was Reduced here and the state is that of the round before.
	Finish struct {
		Key    collective.Key
		Commit cid.Cid
		Units  []collective.Hash
		Totals collective.Totals
		Peers  int
		Taken  uint64 // positions that counted so far
	}
	// Committed: the round is over; collective.Machine.Commit drops its pieces. It comes before Finish, and also where
	// no Finish follows.
	Committed struct{ Key collective.Key }
	// Fetch brings this node's state (weights, moments, counters) to a commit, or a later one, from any of the donors, or
	// from a settled checkpoint's blocks when Manifest is defined; round 0 without a manifest is made from the spec.
	// A newer Fetch replaces an older one. Answers: Restored, Unfetched.
	Fetch struct {
		Round    uint64
		Commit   cid.Cid
		Donors   []record.PeerID
		Manifest cid.Cid
	}
	// WriteCheckpoint stores the state of a commit (which is this node's state now) as blocks and a manifest; Stored
	// answers.
	WriteCheckpoint struct {
		Round  uint64
		Commit cid.Cid
	}
	// KeepCheckpoint pins a settled checkpoint's blocks, fetching what is missing from the holders; Stored answers.
	// Pins of checkpoints before DropBefore may go.
	KeepCheckpoint struct {
		Round      uint64
		Manifest   cid.Cid
		Holders    []record.PeerID
		DropBefore uint64
	}
	// Save stores Spine under the job, replacing what was stored before: New needs it after a restart. Sync: it must
	// survive a power cut before later effects are performed.
	Save struct {
		Spine []*record.Signed
		Sync  bool
	}
	// Logged: Entry is now part of the job's log here. Appending it to the job's stored history is what `job log` and the
	// proof of exactly-once need; the machine itself never asks for it.
	Logged struct{ Entry *record.Signed }
	// Report says how a committed round went.
	Report struct{ Round RoundReport }
	// Publish repeats an entry on the swarm's gossip (at most 8 KiB).
	Publish struct{ Entry *record.Signed }
	// Rollback: the job goes on after Round in another generation. Unfinished work is dropped, collective.Machine.Reset
	// is called, metrics past Round are removed. A Fetch follows where this node's state is not of that history.
	Rollback struct{ Round uint64 }
	// End: the job is over here. The machine may be stepped on, so that others learn how it ended.
	End struct {
		State string // "done", "cancelled", "failed", "left"
		Why   string
	}
	// Note is something a person should see (a line of `job logs`): who was left out and why, waiting for peers, ….
	Note struct{ Text string }
)

// RoundReport is a line of `job rounds`: every member can make it from the log.
type RoundReport struct {
	Round      uint64
	Generation uint32
	Commit     cid.Cid        // of the commit entry
	Attempts   uint32         // 1: nothing had to be done again
	Peers      int            // members whose work counted
	Collect    time.Duration  // first plan to the cut that counts, at the leader that committed it: since it leads
	Gather     time.Duration  // cut to commit, at the leader
	Absent     []Absence      // who was left out of the round or of an attempt of it
	Counted    []Contribution // per member the positions that counted
	Totals     collective.Totals
	Leader     record.PeerID
}

// Absence says who was left out, in which phase and why.
type Absence struct {
	Peer    record.PeerID `cbor:"1,keyasint"`
	Attempt uint32        `cbor:"2,keyasint"`
	Phase   string        `cbor:"3,keyasint"` // "work", "send", "reduce", "gather", "connect", "state", "moments"
	Why     string        `cbor:"4,keyasint"`
}

// Contribution says which positions of a member counted.
type Contribution struct {
	Peer   record.PeerID `cbor:"1,keyasint"`
	Ranges []shard.Range `cbor:"2,keyasint"`
	Stage  int           `cbor:"3,keyasint,omitempty"` // of a pipeline, from 1; positions count once in each
}

func (Send) effect()            {}
func (SendLog) effect()         {}
func (Start) effect()           {}
func (Cut) effect()             {}
func (Release) effect()         {}
func (Committed) effect()       {}
func (Finish) effect()          {}
func (Fetch) effect()           {}
func (WriteCheckpoint) effect() {}
func (KeepCheckpoint) effect()  {}
func (Save) effect()            {}
func (Logged) effect()          {}
func (Report) effect()          {}
func (Publish) effect()         {}
func (Rollback) effect()        {}
func (End) effect()             {}
func (Note) effect()            {}
