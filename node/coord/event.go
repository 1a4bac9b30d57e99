package coord

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Event goes into the machine.
type Event interface{ event() }

type (
	// Tick tells time since the machine started; it never goes back.
	Tick struct{ Now time.Duration }
	// Peer tells that a connection to a peer came or went.
	Peer struct {
		ID record.PeerID
		Up bool
	}
	// Message is a signed control message of another node (bodies in message.go). From is who delivered it, which need
	// not be its signer.
	Message struct {
		From record.PeerID
		Msg  *record.Signed
	}
	// LogMessage is what a peer's SendLog sent.
	LogMessage struct {
		From    record.PeerID
		Payload []byte
	}
	// Held is what the local collective holds as an owner.
	Held struct{ Have collective.Have }
	// Reduced says that the local collective has the complete result of a cut.
	Reduced struct{ Done collective.Done }
	// Stepped says that the trainer stepped a commit (answers Finish); Hash is over weights and moments.
	Stepped struct {
		Round  uint64
		Commit cid.Cid
		Hash   collective.Hash
	}
	// Unstaged says that the result of a Finish is not here any more: more of them came than the worker keeps, while this
	// node was catching up.
	Unstaged struct{ Commit cid.Cid }
	// Restored says that a Fetch succeeded: this node's state is that of Round, made by Commit (undefined: round 0). It
	// may be newer than what was asked for, because donors go on.
	Restored struct {
		Round  uint64
		Commit cid.Cid
		Hash   collective.Hash // zero: unknown
	}
	// Unfetched says that a Fetch did not succeed; the machine chooses other donors.
	Unfetched struct {
		Round uint64
		Why   string
	}
	// Stored says that the checkpoint of a WriteCheckpoint or KeepCheckpoint is on this node's disk.
	Stored struct {
		Round    uint64
		Manifest cid.Cid
	}
	// Measured replaces what this node announces of itself.
	Measured struct{ Capability Capability }
	// Failed says that the local worker cannot go on (out of memory, bad data); the node leaves the job.
	Failed struct{ Why string }
	// Leave asks for a clean leave (SIGTERM): the lead and the keeper's seat are handed over, then End{"left"} follows.
	Leave struct{}
	// GoBack is the submitter's order, by a person, that the job goes on from a checkpoint. It has no effect at others, and
	// when the log has an order with that number or a later one.
	GoBack struct {
		To    SettleEntry // Round 0: from the beginning
		Order uint64
	}
	// CancelJob is the submitter's word that the job is to end.
	CancelJob struct {
		Why    string
		Enough bool // it has learned what it can: it is done, not cancelled
	}
)

func (Tick) event()       {}
func (Peer) event()       {}
func (Message) event()    {}
func (LogMessage) event() {}
func (Held) event()       {}
func (Reduced) event()    {}
func (Stepped) event()    {}
func (Unstaged) event()   {}
func (Restored) event()   {}
func (Unfetched) event()  {}
func (Stored) event()     {}
func (Measured) event()   {}
func (Failed) event()     {}
func (Leave) event()      {}
func (GoBack) event()     {}
func (CancelJob) event()  {}
