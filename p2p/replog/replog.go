// Package replog is a replicated log for one job and generation: go.etcd.io/raft behind a small pure machine.
//
// A Machine is one voter's seat. It has no clock, socket or goroutine: its caller gives it ticks and the messages of
// other voters, and takes from Ready what has to be sent, which entries are committed and who leads. It is not safe for
// concurrent use. Given the same Config and calls it does the same, elections included.
//
// Voters are named by peer and boot id; the raft id is 64 bits of the hash of both. A process that restarts is another
// voter, which a majority has to add. So nothing here is written to disk: a vote or an entry that a process forgot can
// only be one of a voter that never comes back, and a majority of running processes remembers. What a job has to
// remember across restarts is the state that its entries made, and the caller stores that.
//
// Pre-vote and check-quorum are on: a voter that was cut off does not disturb the others when it returns, and a leader
// that hears from no majority for an election timeout steps down. Every message names the log (job, generation, reset)
// and is dropped by any other log. Sizes are bounded: MaxProposal, MaxPayload and raft's own in-flight limits.
package replog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Ticks: with 50 ms between ticks these are 250 ms and 2 s. An election starts after one to two election timeouts of
// silence; ElectionTicks is also the time for which a voter refuses to vote against a leader it hears.
const (
	HeartbeatTicks = 5
	ElectionTicks  = 40
)

const (
	MaxProposal = record.MaxRecord + 1<<10 // bytes of one entry
	MaxPayload  = MaxProposal + 4<<10      // bytes of one message
	maxVoters   = 16
	maxAppend   = 64 << 10 // bytes of entries per append message, above the first
	maxInflight = 64       // append messages per follower
	maxPending  = 4 << 20  // bytes proposed and not committed
)

var (
	// ErrNotLeader: only the leader takes proposals, since only its view of the job is the newest.
	ErrNotLeader = errors.New("this voter does not lead the log")
	// ErrBroken: the machine refused a message that contradicts raft's rules and takes no part any more.
	ErrBroken = errors.New("log is broken")
)

// Voter is a node that votes, in this run of its process.
type Voter struct {
	ID   record.PeerID `cbor:"1,keyasint"`
	Boot uint64        `cbor:"2,keyasint"`
}

// raftID is never 0 (nobody) nor one of the two largest numbers, which raft keeps for itself.
func (v Voter) raftID() uint64 {
	h := sha256.New()
	h.Write([]byte("shoal-voter-1\x00"))
	h.Write([]byte(v.ID))
	h.Write(binary.LittleEndian.AppendUint64(nil, v.Boot))
	return binary.LittleEndian.Uint64(h.Sum(nil))>>1 | 1
}

// Key names a log.
type Key struct {
	Job        cid.Cid
	Generation uint32
	Reset      cid.Cid // of the record that began the generation; undefined in generation 0
}

// Config opens a log.
type Config struct {
	Key
	Self   Voter
	Voters []Voter // that begin the log, in the same order at each of them; empty: Self joins a running log later
	Seed   uint64  // of the election timer
}

// Leader is who leads; the zero Voter when nobody is known to.
type Leader struct {
	Voter
	Term uint64
}

// Ready is what a machine wants done, in the order of its fields.
type Ready struct {
	Leader    *Leader // it changed
	Snapshot  []byte  // the state to adopt in place of the entries before (what some voter gave to Compact)
	Committed [][]byte
	Send      []Send
	NeedState bool // a new voter waits for the state: call Compact
}

// Send is a message for another voter.
type Send struct {
	To      record.PeerID
	Payload []byte
}
