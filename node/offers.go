package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// offersTopic carries offers, on gossip and on control streams.
const offersTopic = "offers"

// repeatOffer is about how often a member repeats the offers of its jobs, so that late nodes hear of them even when
// the submitter is gone.
const repeatOffer = 20 * time.Second

// offer is a job's record on the swarm. Gossip drops messages it has seen; Beat makes a repetition another message.
type offer struct {
	Signed *record.Signed `cbor:"1,keyasint"`
	Beat   uint64         `cbor:"2,keyasint"`
	Proof  []byte         `cbor:"3,keyasint,omitempty"` // in a private swarm: that the submitter may
	Order  *record.Signed `cbor:"4,keyasint,omitempty"` // the submitter's newest order to go on
}

// offers publishes this node's active jobs and takes up those of others.
type offers struct {
	host  *p2p.Host
	jobs  *jobs
	log   *slog.Logger
	may   func(submitter record.PeerID, proof []byte) error // whose jobs the swarm admits
	proof func(submitter record.PeerID) []byte
}

// listen takes offers until the returned function is called.
func (o *offers) listen() (stop func(), err error) {
	quit, err := o.host.Gossip().Subscribe(offersTopic, o.check, o.hear)
	if err != nil {
		return nil, err
	}
	off := o.host.Control().Handle(offersTopic, o.hear)
	unwatch := o.host.Watch(func(id record.PeerID, up bool) {
		if up {
			o.greet(id)
		}
	})
	return func() { unwatch(); off(); quit() }, nil
}

// check decides whether gossip passes a message on.
func (o *offers) check(_ record.PeerID, data []byte) error {
	t, proof, err := openOffer(data)
	if err != nil {
		return err
	}
	return o.may(t.Terms.Submitter, proof)
}

func openOffer(data []byte) (task.Task, []byte, error) {
	if len(data) > p2p.MaxGossip {
		return task.Task{}, nil, fmt.Errorf("%w: offer of %d bytes", record.ErrBad, len(data))
	}
	var o offer
	if err := record.Decode(data, &o); err != nil {
		return task.Task{}, nil, err
	}
	if o.Signed == nil {
		return task.Task{}, nil, fmt.Errorf("%w: offer without a job", record.ErrBad)
	}
	t, err := task.Open(o.Signed)
	if err == nil {
		t, err = t.WithOrder(o.Order)
	}
	return t, o.Proof, err
}

func (o *offers) hear(from record.PeerID, data []byte) {
	t, proof, err := openOffer(data)
	if err != nil {
		o.log.Debug("offer refused", "from", from, "err", err)
		return
	}
	if err := o.may(t.Terms.Submitter, proof); err != nil {
		o.log.Warn("offer refused", "job", t.ID, "from", from, "why", err)
		return
	}
	if t.Terms.Submitter == o.host.ID() {
		t.Mine = true // a home that lost its table meets its own job again
	}
	if err := o.jobs.admit(t, ""); err != nil {
		o.log.Info("offer not accepted", "job", t.ID, "from", from, "why", err)
	}
}

// greet tells a new peer of the active jobs, without waiting for gossip to form.
func (o *offers) greet(id record.PeerID) {
	for _, t := range o.jobs.active() {
		data, err := record.Encode(offer{Signed: t.Signed, Proof: o.proof(t.Terms.Submitter), Order: t.Ordered})
		if err == nil {
			err = o.host.Control().Send(id, offersTopic, data)
		}
		if err != nil {
			o.log.Warn("offer", "job", t.ID, "to", id, "err", err)
		}
	}
}

// publish offers a task to everybody.
func (o *offers) publish(ctx context.Context, t task.Task) {
	data, err := record.Encode(offer{Signed: t.Signed, Beat: rand.Uint64(), Proof: o.proof(t.Terms.Submitter), Order: t.Ordered})
	if err == nil {
		err = o.host.Gossip().Publish(ctx, offersTopic, data)
	}
	if err != nil {
		o.log.Warn("offer", "job", t.ID, "err", err)
	}
	for _, p := range o.host.Peers() {
		if err := o.host.Control().Send(p.ID, offersTopic, data); err != nil {
			o.log.Debug("offer", "job", t.ID, "to", p.ID, "err", err)
		}
	}
}

// repeat publishes active jobs again and again until ctx ends.
func (o *offers) repeat(ctx context.Context) {
	for {
		pause := time.NewTimer(repeatOffer/2 + rand.N(repeatOffer))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		for _, t := range o.jobs.active() {
			o.publish(ctx, t)
		}
	}
}

// policy says which jobs of others this node takes.
type policy struct {
	maxJobs   int
	maxMemory uint64 // bytes; 0: no limit
}

func (p policy) accepts(t task.Task) error {
	switch {
	case t.Mine:
		return nil
	case p.maxJobs == 0:
		return fmt.Errorf("max_jobs is 0")
	case p.maxMemory > 0 && t.Terms.MemBytes > p.maxMemory:
		return fmt.Errorf("it needs %d MiB of memory, max_memory is %d MiB", t.Terms.MemBytes>>20, p.maxMemory>>20)
	}
	return nil
}
