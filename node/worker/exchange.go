package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// askTimeout bounds how long a donor may take to answer a request for state. It has to write its state as blocks
// first; a gigabyte takes seconds.
const askTimeout = 10 * time.Second

// stateAsk asks a member for its state, at round From or later.
type stateAsk struct {
	ID   uint64 `cbor:"1,keyasint"` // of the request, chosen by the asker
	From uint64 `cbor:"2,keyasint"`
}

// stateAnswer names the donor's state as a checkpoint manifest whose blocks it serves, or says why not.
type stateAnswer struct {
	ID       uint64  `cbor:"1,keyasint"`
	Round    uint64  `cbor:"2,keyasint"`
	Manifest cid.Cid `cbor:"3,keyasint,omitzero"`
	Why      string  `cbor:"4,keyasint,omitempty"`
}

func (a stateAnswer) id() uint64 { return a.ID }

// fetch brings this node's state to a commit and hands it to the trainer, or says why it could not.
func (j *Job) fetch(ctx context.Context, number uint64, e coord.Fetch) {
	s, err := j.fetchState(ctx, e)
	switch {
	case ctx.Err() != nil: // a newer fetch took over, or the job ended
	case err != nil:
		j.post(coord.Unfetched{Round: e.Round, Why: err.Error()})
	default:
		j.state.offer(fetched{s, number})
	}
}

func (j *Job) fetchState(ctx context.Context, e coord.Fetch) (snapshot, error) {
	if e.Manifest.Defined() {
		return j.fetchCheckpoint(ctx, e.Manifest, e.Donors)
	}
	if e.Round == 0 && !e.Commit.Defined() && len(e.Donors) == 0 {
		return j.initial(ctx)
	}
	var errs []error
	for left := e.Donors; len(left) > 0; {
		donor, a, err := j.askFirst(ctx, left, e.Round)
		if err != nil {
			errs = append(errs, err)
			break
		}
		s, err := j.fetchCheckpoint(ctx, a.Manifest, append([]record.PeerID{donor}, e.Donors...))
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", donor, err))
		left = slices.DeleteFunc(slices.Clone(left), func(id record.PeerID) bool { return id == donor })
	}
	return snapshot{}, errors.Join(errs...)
}

// nextDonor is how long a donor has the word alone. It may have died a moment ago; a healthy one with little state
// answers in milliseconds.
const nextDonor = time.Second

// askFirst asks donors for state, one more whenever nobody has answered for nextDonor or one has nothing to give, and
// returns the first that has.
func (j *Job) askFirst(ctx context.Context, donors []record.PeerID, from uint64) (record.PeerID, stateAnswer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type reply struct {
		donor record.PeerID
		stateAnswer
		err error
	}
	replies := make(chan reply, len(donors))
	var errs []error
	for asked := 0; asked < len(donors) || len(errs) < asked; {
		var next <-chan time.Time
		if asked < len(donors) {
			donor := donors[asked]
			go func() {
				a, err := j.ask(ctx, donor, from)
				replies <- reply{donor, a, err}
			}()
			asked++
			next = time.After(nextDonor)
		}
		select {
		case r := <-replies:
			if r.err == nil {
				return r.donor, r.stateAnswer, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", r.donor, r.err))
		case <-next:
		case <-ctx.Done():
			return "", stateAnswer{}, ctx.Err()
		}
	}
	return "", stateAnswer{}, errors.Join(errs...)
}

// initial is the state that the job's terms alone determine.
func (j *Job) initial(ctx context.Context) (s snapshot, err error) {
	m, err := j.openMaterials(ctx)
	if err != nil {
		return s, err
	}
	t, err := j.idleTrainer(m)
	if err != nil {
		return s, err
	}
	defer t.Close()
	s.State, err = t.Snapshot()
	return s, err
}

func (j *Job) fetchCheckpoint(ctx context.Context, manifest cid.Cid, from []record.PeerID) (snapshot, error) {
	if _, err := j.fetchManifest(ctx, manifest, from); err != nil {
		return snapshot{}, err
	}
	return loadSnapshot(ctx, j.reader(), j.task.ID, manifest, j.trainer.Elems())
}

// ask sends a request for state to a donor and waits for its answer.
func (j *Job) ask(ctx context.Context, donor record.PeerID, from uint64) (stateAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	id, answers := j.asks.begin()
	defer j.asks.end(id)
	b, err := record.Encode(stateAsk{ID: id, From: from})
	if err != nil {
		return stateAnswer{}, err
	}
	if err := j.Host.Control().Send(donor, j.topic(topicStateAsk), b); err != nil {
		return stateAnswer{}, err
	}
	select {
	case a := <-answers:
		if a.Why != "" {
			return a, errors.New(a.Why)
		}
		return a, nil
	case <-ctx.Done():
		return stateAnswer{}, fmt.Errorf("no answer to a request for state: %w", ctx.Err())
	}
}

// answer serves requests for state, one at a time: the next one usually wants the same.
func (j *Job) answer(from record.PeerID, payload []byte) {
	var q stateAsk
	if err := record.Decode(payload, &q); err != nil {
		j.log.Warn("dropped a malformed request for state", "from", from, "err", err)
		return
	}
	a := stateAnswer{ID: q.ID}
	if c, round, err := j.donate(q.From); err != nil {
		a.Why = err.Error()
	} else {
		a.Manifest, a.Round = c, round
	}
	b, err := record.Encode(a)
	if err != nil {
		j.log.Error("encode an answer", "err", err)
		return
	}
	j.sendRaw(from, topicStateAnswer, b)
}

// donate writes this node's state as blocks, unless the last donation still is that state. The blocks of the two
// newest donations stay pinned.
func (j *Job) donate(from uint64) (cid.Cid, uint64, error) {
	s, err := j.state.copy()
	if err != nil {
		return cid.Undef, 0, err
	}
	round := s.State.Step
	if round < from {
		return cid.Undef, 0, fmt.Errorf("this node is at round %d itself", round)
	}
	if n := len(j.donated); n > 0 && j.donated[n-1].commit == s.Commit && j.donated[n-1].round == round {
		return j.donated[n-1].manifest, round, nil
	}
	c, err := saveSnapshot(j.ctx, j.Store, j.task.ID, s)
	if err != nil {
		return cid.Undef, 0, err
	}
	if err := j.pin(donationPin(round), c); err != nil {
		return cid.Undef, 0, err
	}
	j.donated = append(j.donated, donation{round: round, commit: s.Commit, manifest: c})
	if len(j.donated) > 2 {
		j.unpin(donationPin(j.donated[0].round))
		j.donated = slices.Delete(j.donated, 0, 1)
	}
	return c, round, nil
}

// asks are the requests that wait for an answer of one kind.
type asks[A interface{ id() uint64 }] struct {
	mu   sync.Mutex // guards the rest
	last uint64
	open map[uint64]chan A
}

// begin opens a request; end closes it.
func (a *asks[A]) begin() (id uint64, answer <-chan A) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = map[uint64]chan A{}
	}
	a.last++
	c := make(chan A, 1)
	a.open[a.last] = c
	return a.last, c
}

func (a *asks[A]) end(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, id)
}

// answered takes an answer from the network. One that nobody asked for, or a second one, is dropped.
func (a *asks[A]) answered(_ record.PeerID, payload []byte) {
	var s A
	if record.Decode(payload, &s) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.open[s.id()]; c != nil {
		c <- s
		delete(a.open, s.id())
	}
}

// donation is state that was written for others.
type donation struct {
	round    uint64
	commit   cid.Cid
	manifest cid.Cid
}
