// Package collective adds vectors up inside a replica group and hands every member the same bits.
//
// The index space of a job is cut into chunks. Each chunk has an owner and successors. A member's work is a
// piece: one vector over the index space, named once and never changed. A round at one member is the state
// machine Machine, which has no clock, socket or goroutine:
//
//	Plan      a plan or a further attempt is in force: who owns what, which pieces may count, in which order
//	Local     this member's own piece; its chunks go to the owners, and behind all else its own chunks to their first successor
//	Frame     a chunk of somebody's piece (at an owner) or of the result (at everyone) arrived
//	Cut       the job agreed on the set that counts; owners whose last Have named another set answer with a new sum
//	Release   the totals are in the log: owners may send results
//	Stepped   where owners step: what the optimizer made of this owner's means, asked for by the effect Step
//	Commit    the round is over; staged result becomes final, contributions are dropped
//
// and effects go out: Send (a frame), Receipt (what became of a frame that came in), Have (what this owner holds),
// Done (the result is complete, with hashes).
//
// Sums run in the order of Plan.Pieces (member order, then attempt), each addition rounded once to float32; the sum is
// divided by the cut's weight in float64 and rounded once. So any owner gets the same bits from the same pieces.
// Owners keep contributions apart until the commit and everyone keeps its own, so a dead owner's successor can do
// the sum again: with the owner's own piece if its copies were through, which go while the lines are idle, else without it. When the weight is 0 or the sum is not finite nobody can step: the result is zero, made by every member
// for itself, and no result travels.
//
// A further attempt (somebody died) keeps what does not depend on who is left. Pieces on their way stay on their way. Sums
// stay while their set does. A result that was staged stays in its place, and counts as soon as its owner under the new
// plan names its hash: owners ask by FrameHeld first, and send a chunk only to members that answer RefusedAbsent. So
// whatever an earlier owner may have sent, what counts is what the owner of the plan in force says.
//
// A contribution is refused unless it names a piece that the plan in force lists, and the plan in force or an earlier
// attempt of its round (pieces never change, so an earlier attempt's frame carries the same numbers); a result only
// counts under the plan in force. Frames of a plan not yet seen wait in a bounded mailbox; past its bounds they are
// refused with RefusedUnknown, which tells the sender "I have not seen that plan" and gives back its credit. Applying a
// frame twice changes nothing. A result that was not complete at the commit may still be completed until the next one.
//
// Pieces and results travel in the plan's codec (package exact). A piece counts as what it is after its way through the
// codec, the owner's own included, so owners and successors add the same numbers. What the codec drops of the mean stays
// with the owner and is added to the mean of the next round; it is lost when the chunk changes hands.
//
// Where owners step (ZeRO 1 and 2, Rajbhandari et al. 2020, arXiv:1910.02054) nobody but its owner learns the mean of a
// chunk. Its result is the chunk's new weights, or in a codec other than fp32 the change of what all share; what the codec
// drops stays with the caller, who has the weights it steps.
//
// In a pipeline (Plan.Stage) a piece is the sum over its maker's stage. It travels to the owners of the chunks that the stage
// covers alone; to others it does not exist, and their Haves do not list it. Results go to everyone.
//
// Memory: with Ψ elements in the index space, P pieces and an owner's share of 1/n, a member holds one result of 4Ψ bytes
// (two while a late one completes, and two more that were recycled), its owners' share of P pieces in the codec and, once
// more per piece of an owner it succeeds, that owner's own slices; the sums of its chunks, 4Ψ/n; in a codec other than
// fp32 two residuals of 4Ψ/n and the coded results; and a mailbox of 32 MiB at most. Each lane of xfer holds about half a
// megabyte more at either end.
//
// Machine is not safe for concurrent use; the slices it hands out and is given are shared and never written again. On a
// node a Group runs it over p2p/xfer, safe for concurrent use, and an Exchange gives each job's chunks to its Group.
package collective

import (
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Member is a node that holds a slot, in this run of its process.
type Member struct {
	ID      record.PeerID
	Boot    uint64
	Syncing bool // receives results, owns and computes nothing
}

// PieceID names one contribution.
type PieceID struct {
	Round   uint64
	Attempt uint32 // the attempt that made it
	Member  record.PeerID
	Boot    uint64
}

// Mark is a piece with what it brings beside its vector.
type Mark struct {
	PieceID
	Weight int64   // target tokens
	Loss   float64 // Σ loss
}

// Chunk is [Lo, Hi) of the index space and the unit it belongs to.
type Chunk struct{ Lo, Hi, Unit int }

// Key says under which plan something was sent.
type Key struct {
	Job        cid.Cid
	Generation uint32
	Round      uint64
	Attempt    uint32
	Plan       cid.Cid // CID of the Plan record
}

// Plan is what the machine needs of a coord plan.
type Plan struct {
	Key
	Codec   exact.Codec // in which pieces and the result travel
	Members []Member
	Chunks  []Chunk
	Owners  [][]int   // per chunk: indexes into Members, owner first, then its successors
	Pieces  []PieceID // what may count, in the order of summation

	seen *index // made by Validate

	OwnersStep bool // the result is not the mean but what owners make of it, see Step
	Weights    int  // with OwnersStep: chunks [0, Weights) alone have a result, the sums of the others serve their owners; 0: all

	// A pipeline: pieces are sums over one stage each, and have numbers in the chunks that their maker's stage covers.
	Stage  []int    // per member: its stage, from 1 on, 0: none, and no piece then; nil: every piece has numbers everywhere
	Covers [][]bool // per chunk, by stage: its pieces have numbers there; see the function Covers
}

// Have is what an owner tells the leader: the pieces it holds complete in all its chunks, and the sum over exactly those.
type Have struct {
	Key
	Pieces    []Mark  // in plan order
	SumSq     float64 // Σ (Σu)² over this owner's chunks
	NonFinite bool
	Spoilt    []PieceID // of Pieces, in their order: those whose own numbers here, or whose loss, are not finite
}

// Totals of a cut.
type Totals struct {
	Weight    int64
	Loss      float64
	SumSq     float64
	NonFinite bool
}

// Hash of a chunk's bytes as they travel (in codec fp32 little-endian float32), by BLAKE3, or of a unit: sha2-256 over its
// chunks' hashes.
type Hash [32]byte

// Effect is something the machine wants done. Exactly one field is set.
type Effect struct {
	Send    *Send    // to a peer, over xfer; Machine.Sent tells how it went
	Receipt *Receipt // to the sender of a frame, where it becomes Machine.Sent
	Have    *Have    // to the leader, through coord; a later Have of the same key replaces it
	Done    *Done    // the result of the cut is complete at this member
	Step    *Step    // owners step: Machine.Stepped answers
}

// Send is a frame for one peer.
type Send struct {
	To    record.PeerID
	Frame *Frame
	Later bool // nothing waits for it: a copy against a second death in one round
	Spare bool // a copy against its owner's death, see sendPiece: Later where the line to the peer is slow
}

// Receipt says what became of a frame: every frame given to Machine.Frame gets exactly one, at once or (from the mailbox)
// later. Only a frame whose receipt has no error was delivered.
type Receipt struct {
	To    record.PeerID
	Frame *Frame
	Err   error // nil: held, now or already; else a Refusal
}

// Refusal is why a frame was not taken.
type Refusal uint8

const (
	RefusedStale     Refusal = 1 // of an earlier round, generation or attempt
	RefusedUnknown   Refusal = 2 // of a plan not seen yet, and the mailbox is full: send it again later
	RefusedUnlisted  Refusal = 3 // the plan in force does not list the piece, or not this member for the chunk
	RefusedMalformed Refusal = 4 // wrong length, chunk, mark or sender
	RefusedAbsent    Refusal = 5 // the chunk that a FrameHeld speaks of is not here: send it
)

func (r Refusal) Error() string {
	switch r {
	case RefusedStale:
		return "frame refused: its plan is no longer in force"
	case RefusedUnknown:
		return "frame refused: its plan is not known here yet, send it again"
	case RefusedUnlisted:
		return "frame refused: the plan in force does not send it here"
	case RefusedMalformed:
		return "frame refused: malformed"
	case RefusedAbsent:
		return "frame refused: its bytes are not here yet, send them"
	}
	return "frame refused: reason unknown"
}

// Done carries the complete result.
type Done struct {
	Key
	Units []Hash    // one per unit, in order of the units' first chunks; what members acknowledge and a Commit records
	V     []float32 // the reduced gradient over the whole index space, or what owners made of it; staged until Commit. Read-only
}

// FrameKind tells frames apart on the wire.
type FrameKind uint8

const (
	FrameContribution FrameKind = 1 // a chunk of a piece, to its owner (or first successor)
	FrameResult       FrameKind = 2 // a chunk of the reduced vector, from its owner to everyone
	FrameHeld         FrameKind = 3 // the same without its bytes, for members that may have them from an earlier attempt
)

// Frame is one chunk on its way. Data and Wire must not be changed by anybody after they were handed over. In a codec
// other than fp32 Wire is what travels; where it is nil, it is Data encoded.
type Frame struct {
	Kind  FrameKind
	Key   Key
	Mark  Mark // contributions: of which piece
	Chunk int  // index into Plan.Chunks
	Codec exact.Codec
	Data  []float32
	Wire  []byte

	Hash *Hash // FrameHeld: of the bytes it speaks of

	hash *Hash // of a result's Data, when the receiving side has made it already
}

// elements is the number of elements of the chunk.
func (f *Frame) elements() int {
	if f.Codec != exact.FP32 && f.Wire != nil {
		n, _ := f.Codec.Elements(len(f.Wire))
		return n
	}
	return len(f.Data)
}
