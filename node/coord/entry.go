package coord

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
	"github.com/seed-7b27c88a/shoal/shard"
)

// Contexts of log entries.
const (
	contextPlan    = "shoal/plan"
	contextCut     = "shoal/cut"
	contextTotals  = "shoal/totals"
	contextCommit  = "shoal/commit"
	contextSettle  = "shoal/settle"
	contextMembers = "shoal/members"
	contextReset   = "shoal/reset"
	contextCancel  = "shoal/cancel"
)

// Limits of an entry's tables. Records are bounded in bytes too (record.MaxRecord).
const (
	maxMembers = 1 << 10
	maxPieces  = 4 << 10
	maxRanges  = 1 << 12 // of one piece
	maxUnits   = 1 << 12
	maxAbsent  = 1 << 10
	maxKeepers = 7
	maxText    = 200 // bytes of a reason
	maxForks   = 64
)

// PlanEntry puts an attempt at a round in force (Header.Round, Header.Attempt). It stands alone or inside the commit of
// the round before; the CID of the record that carries it is the plan's name in frames.
type PlanEntry struct {
	Members []Row         `cbor:"1,keyasint"` // who holds the slot, in the order of summation
	Pieces  []Piece       `cbor:"2,keyasint"` // what may count, in the order of summation; those of this attempt are new work
	Codec   string        `cbor:"3,keyasint"` // fp32, bf16 or int8
	Collect time.Duration `cbor:"4,keyasint"` // from plan to cut; then attempt + 1
	Gather  time.Duration `cbor:"5,keyasint"` // from cut to commit; then attempt + 1
	Absent  []Absence     `cbor:"6,keyasint,omitempty"`
	// Base names the working members of the attempt whose pieces still count: chunks stay with their owners of then, and
	// those of a member that does not work any more go to its successors. Empty: owners follow from Members.
	Base []record.PeerID `cbor:"7,keyasint,omitempty"`
	// Shares says in which proportion those who may own do: one byte, see layout.Shared, for each of Base or else of
	// ableOwners. Empty: all the same.
	Shares []byte `cbor:"8,keyasint,omitempty"`
	// Cuts, in a pipeline: stage s, from 1, holds the model's units [Cuts[s-1], Cuts[s]).
	Cuts  []int         `cbor:"9,keyasint,omitempty"`
	Begun *Begun        `cbor:"10,keyasint,omitempty"` // the pipe that goes on; nil: this attempt begins one (stages.go)
	Delay time.Duration `cbor:"11,keyasint,omitempty"` // of a line, with what a micro-batch sends over it

	made *collective.Plan // what parts made of it last
}

// Row is a member in a plan.
type Row struct {
	ID      record.PeerID `cbor:"1,keyasint"`
	Boot    uint64        `cbor:"2,keyasint"`
	Syncing bool          `cbor:"3,keyasint,omitempty"` // receives results, owns and computes nothing
	Aside   bool          `cbor:"4,keyasint,omitempty"` // computes and receives, and owns nothing (shares.go)
	Stage   int           `cbor:"5,keyasint,omitempty"` // of a pipeline, from 1; 0: none
	Pace    time.Duration `cbor:"6,keyasint,omitempty"` // there, of a micro-batch, both ways
}

// Piece is a contribution that a plan lists. In a record the place of its maker among Members (from 1) stands for ID and
// Boot, unless the maker is not there any more: names are most of a large plan.
type Piece struct {
	Attempt uint32        `cbor:"1,keyasint"` // that made it
	ID      record.PeerID `cbor:"2,keyasint,omitempty"`
	Boot    uint64        `cbor:"3,keyasint,omitempty"`
	Ranges  []shard.Range `cbor:"4,keyasint"`           // its positions: sorted, apart
	Again   bool          `cbor:"5,keyasint,omitempty"` // another member's numbers for them were not finite: these count
	Row     uint32        `cbor:"6,keyasint,omitempty"` // see pack
}

// CutEntry names the one set of pieces that counts.
type CutEntry struct {
	Set    []CutMark `cbor:"1,keyasint"` // in plan order
	Totals *Totals   `cbor:"2,keyasint,omitempty"`
	// Ranges, in a pipeline, are the positions that each piece of Set holds.
	Ranges [][]shard.Range `cbor:"3,keyasint,omitempty"`
}

// CutMark is a piece of the plan with what it brings.
type CutMark struct {
	Piece  int     `cbor:"1,keyasint"` // index into the plan's Pieces
	Weight int64   `cbor:"2,keyasint"` // target tokens
	Loss   float64 `cbor:"3,keyasint"` // Σ loss
}

// Totals of a cut.
type Totals struct {
	Weight    int64   `cbor:"1,keyasint"`
	Loss      float64 `cbor:"2,keyasint"`
	SumSq     float64 `cbor:"3,keyasint"`
	NonFinite bool    `cbor:"4,keyasint,omitempty"`
}

// TotalsEntry gives the totals of a cut whose set was not what every owner had summed.
type TotalsEntry struct {
	Totals Totals `cbor:"1,keyasint"`
}

// CommitEntry ends a round.
type CommitEntry struct {
	Prev    cid.Cid           `cbor:"1,keyasint,omitzero"` // the commit of the round before; undefined: round 0
	Units   []collective.Hash `cbor:"2,keyasint"`          // of the reduced gradient, or where owners step of the weights
	Counted []Contribution    `cbor:"3,keyasint"`
	Next    uint64            `cbor:"4,keyasint"`           // data cursor: the first position not taken
	Open    []shard.Range     `cbor:"5,keyasint,omitempty"` // positions before Next that did not count: sorted, apart; none in allreduce
	Totals  Totals            `cbor:"6,keyasint"`
	Tokens  int64             `cbor:"7,keyasint"` // target tokens of the job so far
	State   collective.Hash   `cbor:"8,keyasint"` // of weights and moments before this round, by majority; zero: unknown
	Scale   float64           `cbor:"9,keyasint"` // loss scale
	Collect time.Duration     `cbor:"10,keyasint"`
	Gather  time.Duration     `cbor:"11,keyasint"`
	Absent  []Absence         `cbor:"12,keyasint,omitempty"`
	Plan    *PlanEntry        `cbor:"13,keyasint,omitempty"` // of the next round; absent after the last
	Of      cid.Cid           `cbor:"14,keyasint"`           // the plan that was carried out
	Bad     uint64            `cbor:"15,keyasint,omitempty"` // rounds in a row, this one the last, whose sum was not finite
}

// SettleEntry says that a checkpoint has enough receipts.
type SettleEntry struct {
	Round    uint64          `cbor:"1,keyasint"`
	Commit   cid.Cid         `cbor:"2,keyasint,omitzero"`
	Tokens   int64           `cbor:"3,keyasint"`
	Manifest cid.Cid         `cbor:"4,keyasint"`
	Holders  []record.PeerID `cbor:"5,keyasint"`
	Regular  bool            `cbor:"6,keyasint,omitempty"` // settled in a regular generation
	Next     uint64          `cbor:"7,keyasint,omitempty"` // diloco: the commit's data cursor
	Open     []shard.Range   `cbor:"8,keyasint,omitempty"`
}

// MembersEntry names the keepers from here on.
type MembersEntry struct {
	Keepers []replog.Voter `cbor:"1,keyasint"`
	Why     string         `cbor:"2,keyasint"`
}

// ResetEntry begins a generation: Header.Generation is the new one, Header.Parent the commit it goes on from and
// Header.Round that commit's round. It holds once all keepers signed it (ResetHeld).
type ResetEntry struct {
	Keepers []replog.Voter `cbor:"1,keyasint"`
	Tokens  int64          `cbor:"2,keyasint"`           // of the job up to the parent
	Regular bool           `cbor:"3,keyasint,omitempty"` // more than half of the old keepers' peer ids are among the keepers
	Forks   []Fork         `cbor:"4,keyasint,omitempty"` // the generations before, oldest first
	Settled []SettleEntry  `cbor:"5,keyasint,omitempty"` // checkpoints up to the parent, at most two, oldest first
	Next    uint64         `cbor:"6,keyasint,omitempty"` // diloco: the parent's data cursor
	Open    []shard.Range  `cbor:"7,keyasint,omitempty"`
	Order   uint64         `cbor:"8,keyasint,omitempty"`  // a person's, by number; the submitter alone signs such a Reset
	Moves   []Move         `cbor:"9,keyasint,omitempty"`  // all that hold from here on, oldest first
	Strikes uint64         `cbor:"10,keyasint,omitempty"` // how often the job went back by itself since the last order
	Turned  bool           `cbor:"11,keyasint,omitempty"` // this is such a time
}

// Fork is where a generation began.
type Fork struct {
	Generation uint32  `cbor:"1,keyasint"`
	Reset      cid.Cid `cbor:"2,keyasint"`
	Round      uint64  `cbor:"3,keyasint"` // of the parent commit
	Regular    bool    `cbor:"4,keyasint,omitempty"`
	Order      uint64  `cbor:"5,keyasint,omitempty"` // number of the newest order up to here
	Turned     bool    `cbor:"6,keyasint,omitempty"` // the job diverged and went back
}

// CancelEntry ends the job by the submitter's word, or because it diverges again and again.
type CancelEntry struct {
	Order *record.Signed `cbor:"1,keyasint,omitempty"` // signed by the submitter: context shoal/cancel-order
	Why   string         `cbor:"2,keyasint"`
}

// Entry is an opened log entry.
type Entry struct {
	CID    cid.Cid // of a Reset: of the record that its keepers signed
	Header record.Header
	Signer record.PeerID
	Body   any // *PlanEntry, *CutEntry, …
	Signed *record.Signed
}

// entryCache is what a Signer may be as well: a simulation of many members in one process opens each entry once.
// Entries are never changed.
type entryCache interface {
	Entry(s *record.Signed, open func() (*Entry, error)) (*Entry, error)
}

// OpenEntry checks an entry's signature and the form of its body.
func OpenEntry(by Signer, s *record.Signed) (*Entry, error) {
	if c, ok := by.(entryCache); ok {
		return c.Entry(s, func() (*Entry, error) { return openEntry(by, s) })
	}
	return openEntry(by, s)
}

func openEntry(by Signer, s *record.Signed) (*Entry, error) {
	rec, c, err := by.Open(s)
	if err != nil {
		return nil, err
	}
	body := entryBody(rec.Header.Context)
	if body == nil {
		return nil, fmt.Errorf("%w: context %q is not a log entry", record.ErrBad, rec.Header.Context)
	}
	if err := record.Decode(rec.Body, body); err != nil {
		return nil, err
	}
	if err := unpack(body); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", record.ErrBad, rec.Header.Context, err)
	}
	if err := body.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", record.ErrBad, rec.Header.Context, err)
	}
	if held, ok := body.(*ResetHeld); ok {
		if c, err = held.open(by, rec.Header); err != nil {
			return nil, err
		}
	}
	return &Entry{CID: c, Header: rec.Header, Signer: s.Signer, Body: body, Signed: s}, nil
}

type checked interface{ check() error }

func entryBody(context string) checked {
	switch context {
	case contextPlan:
		return new(PlanEntry)
	case contextCut:
		return new(CutEntry)
	case contextTotals:
		return new(TotalsEntry)
	case contextCommit:
		return new(CommitEntry)
	case contextSettle:
		return new(SettleEntry)
	case contextMembers:
		return new(MembersEntry)
	case contextReset:
		return new(ResetHeld)
	case contextCancel:
		return new(CancelEntry)
	}
	return nil
}

func (p *PlanEntry) check() error {
	if len(p.Members) == 0 || len(p.Members) > maxMembers || len(p.Pieces) > maxPieces || len(p.Base) > maxMembers {
		return fmt.Errorf("%d members, %d before, %d pieces", len(p.Members), len(p.Base), len(p.Pieces))
	}
	if p.Collect <= 0 || p.Gather <= 0 {
		return fmt.Errorf("deadlines %v and %v", p.Collect, p.Gather)
	}
	if _, err := exact.Parse(p.Codec); err != nil {
		return err
	}
	ids := make([]record.PeerID, len(p.Members))
	for i, r := range p.Members {
		ids[i] = r.ID
	}
	if err := errors.Join(checkIDs(ids), checkIDs(p.Base)); err != nil {
		return err
	}
	if len(p.ableOwners()) == 0 {
		return errors.New("nobody works, or may own")
	}
	if err := p.checkShares(); err != nil {
		return err
	}
	for _, pc := range p.Pieces {
		if err := errors.Join(checkID(pc.ID), checkRanges(pc.Ranges)); err != nil {
			return fmt.Errorf("piece of %s: %w", pc.ID, err)
		}
		if len(pc.Ranges) == 0 && !p.flows() {
			return fmt.Errorf("piece of %s without positions", pc.ID)
		}
	}
	if err := p.checkFlow(); err != nil {
		return err
	}
	return checkAbsent(p.Absent)
}

func (c *CutEntry) check() error {
	if len(c.Set) > maxPieces {
		return fmt.Errorf("%d pieces", len(c.Set))
	}
	for i, m := range c.Set {
		if i > 0 && m.Piece <= c.Set[i-1].Piece || m.Piece < 0 || m.Weight < 0 || !finite(m.Loss) {
			return fmt.Errorf("mark %d", i)
		}
	}
	if n := len(c.Ranges); n > 0 && n != len(c.Set) {
		return fmt.Errorf("positions of %d pieces of %d", n, len(c.Set))
	}
	for _, rs := range c.Ranges {
		if err := checkRanges(rs); err != nil {
			return err
		}
	}
	if c.Totals != nil {
		return c.Totals.check()
	}
	return nil
}

func (t *Totals) check() error {
	if t.Weight < 0 || !finite(t.Loss) || !finite(t.SumSq) || t.SumSq < 0 {
		return fmt.Errorf("totals %+v", *t)
	}
	return nil
}

func (t *TotalsEntry) check() error { return t.Totals.check() }

func (c *CommitEntry) check() error {
	if len(c.Units) > maxUnits || len(c.Counted) > maxMembers || len(c.Open) > maxOpen || c.Tokens < 0 {
		return fmt.Errorf("%d units, %d members, %d open ranges, %d tokens", len(c.Units), len(c.Counted), len(c.Open), c.Tokens)
	}
	if err := checkRanges(c.Open); err != nil {
		return err
	}
	for _, n := range c.Counted {
		if err := checkRanges(n.Ranges); err != nil {
			return err
		}
		if n.Stage < 0 || n.Stage > maxStages {
			return fmt.Errorf("stage %d", n.Stage)
		}
	}
	if err := c.Totals.check(); err != nil {
		return err
	}
	if c.Plan != nil {
		if err := c.Plan.check(); err != nil {
			return err
		}
	}
	return checkAbsent(c.Absent)
}

func (s *SettleEntry) check() error {
	if !s.Manifest.Defined() || len(s.Holders) == 0 || len(s.Holders) > maxMembers || s.Tokens < 0 || len(s.Open) > maxOpen {
		return fmt.Errorf("manifest %v, %d holders", s.Manifest, len(s.Holders))
	}
	return checkRanges(s.Open)
}

func (m *MembersEntry) check() error {
	if len(m.Why) > maxText {
		return fmt.Errorf("reason of %d bytes", len(m.Why))
	}
	return checkKeepers(m.Keepers)
}

func (r *ResetEntry) check() error {
	if r.Tokens < 0 || len(r.Forks) > maxForks || len(r.Open) > maxOpen {
		return fmt.Errorf("%d tokens, %d forks, %d open ranges", r.Tokens, len(r.Forks), len(r.Open))
	}
	if err := checkRanges(r.Open); err != nil {
		return err
	}
	if len(r.Settled) > 2 {
		return fmt.Errorf("%d checkpoints", len(r.Settled))
	}
	for i := range r.Settled {
		if err := r.Settled[i].check(); err != nil {
			return err
		}
	}
	return errors.Join(checkMoves(r.Moves), checkKeepers(r.Keepers))
}

func (c *CancelEntry) check() error {
	if len(c.Why) > maxText {
		return fmt.Errorf("reason of %d bytes", len(c.Why))
	}
	return nil
}

func checkKeepers(vs []replog.Voter) error {
	if len(vs) == 0 || len(vs) > maxKeepers {
		return fmt.Errorf("%d keepers", len(vs))
	}
	ids := make([]record.PeerID, len(vs))
	for i, v := range vs {
		ids[i] = v.ID
	}
	return checkIDs(ids)
}

// checkIDs checks peer IDs that have to be different.
func checkIDs(ids []record.PeerID) error {
	seen := make(map[record.PeerID]bool, len(ids))
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return err
		}
		if seen[id] {
			return fmt.Errorf("%s twice", id)
		}
		seen[id] = true
	}
	return nil
}

func checkID(id record.PeerID) error {
	if id == "" || len(id) > 64 {
		return fmt.Errorf("peer ID of %d characters", len(id))
	}
	return nil
}

func checkRanges(rs []shard.Range) error {
	if len(rs) > maxRanges {
		return fmt.Errorf("%d ranges", len(rs))
	}
	for i, r := range rs {
		if r.Hi <= r.Lo || i > 0 && r.Lo < rs[i-1].Hi {
			return fmt.Errorf("range %d is [%d, %d)", i, r.Lo, r.Hi)
		}
	}
	return nil
}

func checkAbsent(as []Absence) error {
	if len(as) > maxAbsent {
		return fmt.Errorf("%d absences", len(as))
	}
	for _, a := range as {
		if len(a.Why) > maxText || len(a.Phase) > maxText || len(a.Peer) > 64 {
			return fmt.Errorf("absence of %d bytes", len(a.Why)+len(a.Phase))
		}
	}
	return nil
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
