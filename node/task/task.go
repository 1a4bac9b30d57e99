// Package task is the border between the daemon and what runs a job: the signed record that a submitter publishes
// (Terms), what the daemon hands to a runtime (Task), and what the runtime tells back (Event).
//
// A job's identity is the CID of its terms' canonical bytes; the signature lies outside it. Terms name everything by
// CID, so no path of the submitter's machine travels. They come from peers: Open checks signature, size and every
// field before anything is believed.
package task

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// Context is the header context of a job's record.
const Context = "shoal/job"

// MaxSigned bounds a job's signed record, bytes, so that it fits into a gossip message beside what carries it.
const MaxSigned = 7 << 10

// Terms is what a job trains, on what, how. The CIDs name manifests.
type Terms struct {
	Submitter record.PeerID `cbor:"1,keyasint"`
	Nonce     uint64        `cbor:"2,keyasint"` // tells equal jobs apart
	Spec      []byte        `cbor:"3,keyasint"` // canonical; its paths say "cid:…"
	Model     cid.Cid       `cbor:"4,keyasint"`
	Adapter   cid.Cid       `cbor:"5,keyasint,omitzero"`  // where a LoRA starts; undefined: from its seed
	Data      cid.Cid       `cbor:"6,keyasint"`           // materialised training positions
	Held      cid.Cid       `cbor:"7,keyasint,omitzero"`  // held-out positions; undefined: none
	Rows      uint64        `cbor:"8,keyasint"`           // training positions
	Params    uint64        `cbor:"9,keyasint"`           // elements that are trained
	MemBytes  uint64        `cbor:"10,keyasint"`          // what a member needs, the submitter's estimate
	Exam      cid.Cid       `cbor:"11,keyasint,omitzero"` // what evaluations ask; undefined: nothing
}

// Task is a job as this node runs it.
type Task struct {
	ID     cid.Cid
	Terms  Terms
	Spec   job.Spec       // decoded from Terms
	Signed *record.Signed // what to show others
	Mine   bool           // this node submitted it

	Order   Order          // the newest that this node knows of; zero: none
	Ordered *record.Signed // to show it to others; nil where there is none
}

// Sign makes the task of terms; key belongs to terms.Submitter.
func Sign(terms Terms, boot uint64, key ed25519.PrivateKey) (Task, error) {
	body, err := record.Encode(terms)
	if err != nil {
		return Task{}, err
	}
	h := record.Header{Context: Context, Version: record.Version, Job: record.CID(body), Boot: boot}
	s, _, err := record.Sign(h, terms, terms.Submitter, key)
	if err != nil {
		return Task{}, err
	}
	t, err := Open(s)
	t.Mine = true
	return t, err
}

// Open checks a job's record from anywhere.
func Open(s *record.Signed) (Task, error) {
	if n := len(s.Record) + len(s.Sig) + len(s.Signer); n > MaxSigned {
		return Task{}, fmt.Errorf("%w: job of %d bytes, limit %d; shorten names and lists in the spec", record.ErrBad, n, MaxSigned)
	}
	r, _, err := record.Open(s)
	if err != nil {
		return Task{}, err
	}
	t := Task{ID: record.CID(r.Body), Signed: s}
	if r.Header.Context != Context || r.Header.Job != t.ID {
		return Task{}, fmt.Errorf("%w: %q record is not a job", record.ErrBad, r.Header.Context)
	}
	if err := record.Decode(r.Body, &t.Terms); err != nil {
		return Task{}, err
	}
	if t.Spec, err = job.FromCanonical(t.Terms.Spec); err != nil {
		return Task{}, fmt.Errorf("%w: %w", record.ErrBad, err)
	}
	return t, t.Terms.check(s.Signer)
}

func (t *Terms) check(signer record.PeerID) error {
	switch {
	case t.Submitter != signer:
		return fmt.Errorf("%w: job of %s signed by %s", record.ErrBad, t.Submitter, signer)
	case t.Rows == 0 || t.Rows > 1<<40:
		return fmt.Errorf("%w: job over %d rows", record.ErrBad, t.Rows)
	case t.Params == 0 || t.Params > 1<<44:
		return fmt.Errorf("%w: job with %d trained elements", record.ErrBad, t.Params)
	case !isManifest(t.Model) || !isManifest(t.Data):
		return fmt.Errorf("%w: job without model or data", record.ErrBad)
	case t.Adapter.Defined() && !isManifest(t.Adapter), t.Held.Defined() && !isManifest(t.Held), t.Exam.Defined() && !isManifest(t.Exam):
		return fmt.Errorf("%w: job names a block that is no manifest", record.ErrBad)
	}
	return nil
}

func isManifest(c cid.Cid) bool { return c.Defined() && c.Type() == cid.DagCBOR }

// Runtime runs jobs. node/worker is the one for the swarm.
type Runtime interface {
	// Run takes part in a job until it is over, this node leaves it, or ctx ends, which asks for a clean leave: hand over,
	// flush, return. It reports through report, which never blocks for long; the last report is an Ended, unless ctx ended
	// it. A task that ran before resumes from what the node stored.
	Run(ctx context.Context, t Task, report func(Event)) error
	// Cancel publishes the submitter's word that the job ends; Run then ends with Ended{"cancelled"}.
	Cancel(ctx context.Context, id cid.Cid) error
	// GoBack carries out a person's order at the submitter: a job that runs goes on from the checkpoint of a step.
	GoBack(ctx context.Context, id cid.Cid, step uint64) (Order, error)
	// Checkpoints lists what a job that this node knows could go back to, by step.
	Checkpoints(ctx context.Context, t Task) ([]Checkpoint, error)
	// Export writes the newest settled weights of a task on this node into dir: as is "lora", "merged" or "full".
	Export(ctx context.Context, t Task, as, dir string) error
}

// Event is what a runtime reports.
type Event interface{ event() }

type (
	// Stepped: an optimizer step is committed. On the submitter's node every step is reported, also those that were
	// committed while it was away, from the job's log.
	Stepped struct {
		trainer.StepReport
		State string // hex sha2-256 of weights and moments after it; empty where this node did not hold them
	}
	// Back: the job continues from step Step; reports past it are void.
	Back struct{ Step uint64 }
	// Settled: a checkpoint of this step is held by enough members, among them this one.
	Settled struct {
		Step     uint64
		Manifest cid.Cid
	}
	// Evaluated: the weights of a step were measured on the held-out rows.
	Evaluated struct{ trainer.EvalReport }
	// Note is a line for people.
	Note struct{ Text string }
	// Round is the report of a committed round.
	Round struct{ RoundReport }
	// Ordered: the job's log has an order that this node's table did not know.
	Ordered struct{ Number uint64 }
	// Ended: the job is over here: "done", "failed", "cancelled" or "left".
	Ended struct{ State, Why string }
)

func (Stepped) event()   {}
func (Back) event()      {}
func (Settled) event()   {}
func (Evaluated) event() {}
func (Note) event()      {}
func (Round) event()     {}
func (Ordered) event()   {}
func (Ended) event()     {}

// RoundReport says who worked on what in a committed round, and why somebody was left out.
type RoundReport struct {
	Round      uint64        `json:"round"`
	Generation uint32        `json:"generation"`
	Attempts   uint32        `json:"attempts"`
	Commit     string        `json:"commit"` // CID of the commit entry
	Tokens     int64         `json:"tokens"`
	Seconds    float64       `json:"seconds"`
	Collect    float64       `json:"collect"` // seconds of it from the plan to the cut, at the leader; the rest: to the commit
	Leader     record.PeerID `json:"leader"`
	Members    []RoundMember `json:"members"`
	Notes      []string      `json:"notes,omitempty"`
	Waited     float64       `json:"waited,omitempty"` // of a pipeline: seconds in which this node waited for something to compute
}

// RoundMember is one member's part: the half-open stream ranges of its work that counted; or, with Left, that it was left
// out. A member may have both: its work counted, and then it was gone.
type RoundMember struct {
	Peer      record.PeerID `json:"peer"`
	Positions [][2]uint64   `json:"positions"`
	Stage     int           `json:"stage,omitempty"`   // of a pipeline, from 1; positions count once in each
	Left      string        `json:"left,omitempty"`    // attempt, phase and why as a sentence
	Attempt   int           `json:"attempt,omitempty"` // the one it was left out of, from 1
	Phase     string        `json:"phase,omitempty"`   // work, send, reduce, gather; connect, state, moments
	Why       string        `json:"why,omitempty"`
}
