package coord

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
	"github.com/seed-7b27c88a/shoal/shard"
)

// job is what the log says, as of its last entry that was not void. It changes by apply.go alone and is the same at
// every member that has applied the same entries.
type job struct {
	gen    uint32
	reset  cid.Cid // of the generation's Reset; undefined in generation 0
	forks  []Fork  // generations after the first, this one included
	head   cid.Cid // last entry
	round  uint64  // of the newest commit
	commit cid.Cid // undefined: round 0
	tokens int64
	cursor cursor // which positions are left

	bad     uint64 // newest rounds in a row whose sum was not finite
	strikes uint64 // see ResetEntry
	moves   []Move

	plan   *planned
	stages []Stage // of a pipeline, as they were last planned
	cut    *CutEntry
	totals *Totals

	settled   []SettleEntry // newest last, at most two
	keepers   []replog.Voter
	cancelled string // why it was ended before its last step; empty: it was not
	endState  string // of a job that was: "cancelled", "done" or "failed"
	ended     bool   // the last commit is settled, or cancelled

	trail  []commitAt // newest commits, oldest first
	spine  []*Entry   // the entries that make this state, in order
	recent []*Entry   // newest entries, oldest first, for members a little behind
	bytes  int        // of recent
}

// planned is the plan in force.
type planned struct {
	*PlanEntry
	key   collective.Key
	since time.Duration    // when it was applied here
	parts *collective.Plan // with owners

	asked []bool // of a pipeline, per piece and member; see concerns
}

// commitAt is a commit and what a member that has its predecessor's state needs to step.
type commitAt struct {
	round  uint64
	cid    cid.Cid
	tokens int64 // of the job up to here
	cursor cursor
	entry  *CommitEntry // nil: known from a Reset or a checkpoint
	key    collective.Key
	peers  int
}

const (
	maxTrail  = 64
	maxRecent = 256     // entries
	maxBytes  = 4 << 20 // of recent entries
)

func newJob(g *Genesis) *job {
	return &job{keepers: []replog.Voter{{ID: g.Submitter}}, trail: []commitAt{{}}}
}

// A generation counts the attempts at each round from a number of its own, so that a piece made in another generation
// never has the name of one that counts in this.
const attemptsPerGeneration = 1 << 16

func (j *job) firstAttempt() uint32 { return j.gen % (1 << 16) * attemptsPerGeneration }

// attemptOf is an attempt as people count them: from 0 in each round.
func attemptOf(attempt uint32) uint32 { return attempt % attemptsPerGeneration }

// batch is the stream range of a round.
func (g *Genesis) batch(round uint64) shard.Range {
	return shard.Range{Lo: min((round-1)*g.Batch, g.Samples), Hi: min(round*g.Batch, g.Samples)}
}

// at finds a commit by its round.
func (j *job) at(round uint64) (commitAt, bool) {
	for _, c := range j.trail {
		if c.round == round {
			return c, true
		}
	}
	return commitAt{}, false
}

// keep puts e into the spine in place of the entries it makes superfluous.
func (j *job) keep(e *Entry) {
	j.spine = slices.DeleteFunc(j.spine, func(o *Entry) bool { return outdates(e, o) })
	j.spine = append(j.spine, e)
	j.recent = append(j.recent, e)
	j.bytes += len(e.Signed.Record)
	for len(j.recent) > maxRecent || j.bytes > maxBytes {
		j.bytes -= len(j.recent[0].Signed.Record)
		j.recent = slices.Delete(j.recent, 0, 1)
	}
	if _, ok := e.Body.(*SettleEntry); ok {
		j.dropSettled()
	}
}

func (j *job) dropSettled() {
	n := 0
	for i := len(j.spine) - 1; i >= 0; i-- {
		if _, ok := j.spine[i].Body.(*SettleEntry); ok {
			if n++; n > 2 {
				j.spine = slices.Delete(j.spine, i, i+1)
			}
		}
	}
}

// outdates tells whether the state after e does not need o any more.
func outdates(e, o *Entry) bool {
	switch e.Body.(type) {
	case *ResetHeld:
		return true
	case *MembersEntry:
		_, same := o.Body.(*MembersEntry)
		return same
	case *PlanEntry:
		return ofRound(o)
	case *CommitEntry:
		_, same := o.Body.(*CommitEntry)
		return same || ofRound(o)
	}
	return false
}

func ofRound(o *Entry) bool {
	switch o.Body.(type) {
	case *PlanEntry, *CutEntry, *TotalsEntry:
		return true
	}
	return false
}

// since returns the entries after head, if they are still here.
func (j *job) since(head cid.Cid) ([]*Entry, bool) {
	for i, e := range j.recent {
		if e.CID == head {
			return j.recent[i+1:], true
		}
	}
	return nil, false
}

// regular tells whether the generation is: the first one, or one that a majority of the old keepers began.
func (j *job) regular() bool {
	return len(j.forks) == 0 || j.forks[len(j.forks)-1].Regular
}

func (j *job) lastSettled() SettleEntry {
	if n := len(j.settled); n > 0 {
		return j.settled[n-1]
	}
	return SettleEntry{}
}

// row finds a member in the plan; -1: it is not in it with this boot id.
func (p *planned) row(id record.PeerID, boot uint64) int {
	if p == nil {
		return -1
	}
	return slices.IndexFunc(p.Members, func(r Row) bool { return r.ID == id && r.Boot == boot })
}

func isKeeper(vs []replog.Voter, id record.PeerID) bool {
	return slices.ContainsFunc(vs, func(v replog.Voter) bool { return v.ID == id })
}

func signedOf(es []*Entry) []*record.Signed {
	out := make([]*record.Signed, len(es))
	for i, e := range es {
		out[i] = e.Signed
	}
	return out
}
