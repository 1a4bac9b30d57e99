package task

import (
	"crypto/ed25519"
	"fmt"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Order is the submitter's word, given by a person, that a job goes on from a checkpoint: back to an earlier step, or
// after its end. A job's orders are numbered; the one with the highest number holds.
type Order struct {
	Number uint64 `json:"number"`
	Step   uint64 `json:"step"` // of the checkpoint, 0: the beginning. Only the submitter needs it
}

// OrderContext is the header context of an order that travels beside its job's record: it tells nodes for which the job
// is over that it goes on. What it goes on from is in the job's log.
const OrderContext = "shoal/go-on"

const maxOrder = 1 << 10 // bytes, signed

type orderBody struct {
	Number uint64 `cbor:"1,keyasint"`
}

// SignOrder signs a task's order; key is the submitter's.
func SignOrder(t Task, number, boot uint64, key ed25519.PrivateKey) (*record.Signed, error) {
	h := record.Header{Context: OrderContext, Version: record.Version, Job: t.ID, Boot: boot}
	s, _, err := record.Sign(h, orderBody{number}, t.Terms.Submitter, key)
	return s, err
}

// WithOrder is t with the order that came beside it from anywhere, which may be none.
func (t Task) WithOrder(s *record.Signed) (Task, error) {
	if s == nil {
		return t, nil
	}
	if n := len(s.Record) + len(s.Sig) + len(s.Signer); n > maxOrder {
		return t, fmt.Errorf("%w: order of %d bytes", record.ErrBad, n)
	}
	r, _, err := record.Open(s)
	if err != nil {
		return t, err
	}
	if r.Header.Context != OrderContext || r.Header.Job != t.ID || s.Signer != t.Terms.Submitter {
		return t, fmt.Errorf("%w: not an order of the job's submitter", record.ErrBad)
	}
	var b orderBody
	if err := record.Decode(r.Body, &b); err != nil {
		return t, err
	}
	if b.Number > t.Order.Number {
		t.Order, t.Ordered = Order{Number: b.Number}, s
	}
	return t, nil
}

// Checkpoint is one that a job can go back to, as this node knows it.
type Checkpoint struct {
	Step     uint64          `json:"step"`           // as the runtime counts: in diloco rounds
	Loss     float64         `json:"loss,omitempty"` // of that step
	Settled  bool            `json:"settled"`        // by the job's log
	Holders  []record.PeerID `json:"holders"`        // who promised to keep it, when it was settled
	Bytes    int64           `json:"bytes"`          // 0: not here
	Here     bool            `json:"here"`
	Left     bool            `json:"left,omitempty"` // a rollback left it behind: the job has come another way since
	Best     bool            `json:"best,omitempty"` // the one with the lowest held-out loss that the submitter measured
	Manifest string          `json:"manifest"`
}
