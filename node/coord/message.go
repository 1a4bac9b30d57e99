package coord

import (
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Contexts of control messages.
const (
	contextBeat     = "shoal/beat"
	contextPush     = "shoal/push"
	contextHave     = "shoal/have"
	contextAck      = "shoal/ack"
	contextReceipt  = "shoal/receipt"
	contextStanding = "shoal/standing"
	contextSign     = "shoal/reset-sign"
	contextOrder    = "shoal/cancel-order"
	contextFlow     = "shoal/flow"
	contextSeal     = "shoal/seal"
)

const (
	maxPush     = 64 // entries of one push
	maxSigs     = 16
	maxVersions = 16
)

// beat is "I am here": sent to the leader every beatEvery, to whoever may know it while it is unknown, and at once when
// something in it changes. The leader, and who is asked for it, answers with its own.
type beat struct {
	Capability Capability      `cbor:"1,keyasint"`
	Head       cid.Cid         `cbor:"2,keyasint,omitzero"`  // of the log here
	Ready      bool            `cbor:"3,keyasint,omitempty"` // this node has a state: that of Round and Commit
	Round      uint64          `cbor:"4,keyasint"`
	Commit     cid.Cid         `cbor:"5,keyasint,omitzero"`
	Hash       collective.Hash `cbor:"6,keyasint"` // of the state; zero: unknown
	Leader     record.PeerID   `cbor:"7,keyasint"` // as far as known
	Term       uint64          `cbor:"8,keyasint"`
	Leaving    bool            `cbor:"9,keyasint,omitempty"`
	Answer     bool            `cbor:"10,keyasint,omitempty"` // asks for no answer
	Apart      []record.PeerID `cbor:"11,keyasint,omitempty"` // whom this node cannot reach, see Unreached
	Waits      string          `cbor:"12,keyasint,omitempty"` // of the leader: what the job waits for
}

// push brings entries to a member that is not a keeper, or is behind. Spine: they stand for the whole log.
type push struct {
	Term    uint64           `cbor:"1,keyasint"`
	Entries []*record.Signed `cbor:"2,keyasint"`
	Spine   bool             `cbor:"3,keyasint,omitempty"`
	Leads   bool             `cbor:"4,keyasint,omitempty"` // the sender leads the log
	On      []record.PeerID  `cbor:"5,keyasint,omitempty"` // whom the receiver passes the entries on to
}

// haveMsg is an owner's collective.Have; the header names round and attempt.
type haveMsg struct {
	Plan      cid.Cid   `cbor:"1,keyasint"`
	Pieces    []CutMark `cbor:"2,keyasint"` // plan order
	SumSq     float64   `cbor:"3,keyasint"`
	NonFinite bool      `cbor:"4,keyasint,omitempty"`
	Spoilt    []int     `cbor:"5,keyasint,omitempty"` // places in Pieces of those that are themselves not finite
}

// ackMsg says that the whole result is staged here.
type ackMsg struct {
	Plan   cid.Cid           `cbor:"1,keyasint"`
	Units  []collective.Hash `cbor:"2,keyasint"`
	Notice string            `cbor:"3,keyasint,omitempty"` // see Adopted
}

// receiptMsg says that a checkpoint is on this node's disk. Want asks its receiver to write it.
type receiptMsg struct {
	Round    uint64  `cbor:"1,keyasint"`
	Commit   cid.Cid `cbor:"2,keyasint,omitzero"`
	Manifest cid.Cid `cbor:"3,keyasint,omitzero"`
	Want     bool    `cbor:"4,keyasint,omitempty"`
}

// orderMsg is the submitter's word that the job ends.
type orderMsg struct {
	Why    string `cbor:"1,keyasint"`
	Enough bool   `cbor:"2,keyasint,omitempty"` // the job is done before its last step, not cancelled
}

func messageBody(context string) checked {
	switch context {
	case contextBeat:
		return new(beat)
	case contextPush:
		return new(push)
	case contextHave:
		return new(haveMsg)
	case contextAck:
		return new(ackMsg)
	case contextReceipt:
		return new(receiptMsg)
	case contextStanding:
		return new(standing)
	case contextSign:
		return new(signMsg)
	case contextOrder:
		return new(orderMsg)
	case contextFlow:
		return new(flowMsg)
	case contextSeal:
		return new(sealMsg)
	}
	return nil
}

func (b *beat) check() error {
	c := b.Capability
	if len(c.Versions) > maxVersions || len(b.Leader) > 64 || !finite(c.RowsPerSec) || !finite(c.BytesPerSec) {
		return fmt.Errorf("capability %+v", c)
	}
	if len(b.Apart) > maxApart || len(b.Waits) > maxText {
		return fmt.Errorf("%d peers out of reach", len(b.Apart))
	}
	return checkIDs(b.Apart)
}

func (p *push) check() error {
	if len(p.Entries) > maxPush || len(p.On) > maxMembers {
		return fmt.Errorf("%d entries to be passed on to %d", len(p.Entries), len(p.On))
	}
	if err := checkIDs(p.On); err != nil {
		return err
	}
	for _, e := range p.Entries {
		if e == nil {
			return fmt.Errorf("no entry")
		}
	}
	return nil
}

func (h *haveMsg) check() error {
	if !finite(h.SumSq) || h.SumSq < 0 {
		return fmt.Errorf("Σg² %v", h.SumSq)
	}
	for i, k := range h.Spoilt {
		if k < 0 || k >= len(h.Pieces) || i > 0 && k <= h.Spoilt[i-1] {
			return fmt.Errorf("spoilt piece %d of %d", k, len(h.Pieces))
		}
	}
	return (&CutEntry{Set: h.Pieces}).check()
}

func (a *ackMsg) check() error {
	if len(a.Units) > maxUnits || len(a.Notice) > maxText {
		return fmt.Errorf("%d units, notice of %d bytes", len(a.Units), len(a.Notice))
	}
	return nil
}

func (r *receiptMsg) check() error {
	if r.Want == r.Manifest.Defined() {
		return fmt.Errorf("neither a receipt nor a wish")
	}
	return nil
}

func (o *orderMsg) check() error {
	if len(o.Why) > maxText {
		return fmt.Errorf("reason of %d bytes", len(o.Why))
	}
	return nil
}

// opened is a control message.
type opened struct {
	header record.Header
	signer record.PeerID
	body   any
	signed *record.Signed
}

// messageCache is for messages what entryCache is for entries.
type messageCache interface {
	Message(s *record.Signed, open func() (any, error)) (any, error)
}

func openMessage(by Signer, s *record.Signed) (*opened, error) {
	c, ok := by.(messageCache)
	if !ok {
		return openOne(by, s)
	}
	o, err := c.Message(s, func() (any, error) { return openOne(by, s) })
	if err != nil {
		return nil, err
	}
	return o.(*opened), nil
}

func openOne(by Signer, s *record.Signed) (*opened, error) {
	rec, _, err := by.Open(s)
	if err != nil {
		return nil, err
	}
	body := messageBody(rec.Header.Context)
	if body == nil {
		return nil, fmt.Errorf("%w: context %q is not a control message", record.ErrBad, rec.Header.Context)
	}
	if err := record.Decode(rec.Body, body); err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", record.ErrBad, rec.Header.Context, err)
	}
	return &opened{rec.Header, s.Signer, body, s}, nil
}
