package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// momentsAsk asks a member for the state of chunks after Step, or of an earlier step if it has no other.
type momentsAsk struct {
	ID     uint64 `cbor:"1,keyasint"` // chosen by the asker
	Step   uint64 `cbor:"2,keyasint"`
	Chunks []int  `cbor:"3,keyasint"`           // ascending
	Send   bool   `cbor:"4,keyasint,omitempty"` // send it; else say only what there is
}

// momentsAnswer says what the member has; what was to be sent comes as vectors, before or after it.
type momentsAnswer struct {
	ID   uint64      `cbor:"1,keyasint"`
	Have []momentsOf `cbor:"2,keyasint"` // by chunk; what it has nothing of is not in it
	Why  string      `cbor:"3,keyasint,omitempty"`
}

// momentsOf is which state of a chunk a member has.
type momentsOf struct {
	Chunk int    `cbor:"1,keyasint"`
	Step  uint64 `cbor:"2,keyasint"`
	Count uint64 `cbor:"3,keyasint"`
}

const (
	// lendWait is how long a member may be behind the one that asks for its state: it hears of a commit a moment later.
	lendWait = 3 * time.Second
	// answerWait is how long an answer may take, lendWait included.
	answerWait = lendWait + 2*time.Second
	// vectorWait is how long the next chunk that was promised may take.
	vectorWait = 15 * time.Second
	// maxLending bounds the requests that are served at a time.
	maxLending = 32
)

// request is an ask under way.
type request struct {
	to     record.PeerID
	chunks map[int]bool
	answer chan momentsAnswer
	got    chan trainer.Moments // has room for every chunk
}

func (r *request) take(m trainer.Moments) {
	select {
	case r.got <- m:
	default: // sent twice
	}
}

// ask sends a request and waits for its answer, and for what it promises, as far as it comes.
func (m *moments) ask(ctx context.Context, post func(record.PeerID, momentsAsk) error, to record.PeerID, q momentsAsk) (momentsAnswer, []trainer.Moments, error) {
	r := &request{to: to, chunks: map[int]bool{}, answer: make(chan momentsAnswer, 1), got: make(chan trainer.Moments, len(q.Chunks))}
	for _, c := range q.Chunks {
		r.chunks[c] = true
	}
	m.mu.Lock()
	m.lastAsk++
	q.ID = m.lastAsk
	m.asks[q.ID] = r
	m.mu.Unlock()
	defer m.endAsk(q.ID)
	if err := post(to, q); err != nil {
		return momentsAnswer{}, nil, err
	}
	var a momentsAnswer
	select {
	case a = <-r.answer:
	case <-time.After(answerWait):
		return a, nil, errors.New("no answer to a request for optimizer state")
	case <-ctx.Done():
		return a, nil, ctx.Err()
	}
	if a.Why != "" {
		return a, nil, errors.New(a.Why)
	}
	if !q.Send {
		return a, nil, nil
	}
	var got []trainer.Moments
	for range a.Have {
		select {
		case x := <-r.got:
			got = append(got, x)
		case <-time.After(vectorWait):
			return a, got, fmt.Errorf("%d of %d chunks of optimizer state came", len(got), len(a.Have))
		case <-ctx.Done():
			return a, got, ctx.Err()
		}
	}
	return a, got, nil
}

func (m *moments) endAsk(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.asks, id)
	for k := range m.coming {
		if k.ask == id {
			delete(m.coming, k)
		}
	}
}

// answered takes an answer from the network. One that nobody asked for, or a second one, is dropped.
func (m *moments) answered(from record.PeerID, payload []byte) {
	var a momentsAnswer
	if record.Decode(payload, &a) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.asks[a.ID]
	if r == nil || r.to != from || !a.fits(r) {
		return
	}
	select {
	case r.answer <- a:
	default:
	}
}

// fits says whether an answer is about chunks that were asked for, each once.
func (a *momentsAnswer) fits(r *request) bool {
	for i, h := range a.Have {
		if !r.chunks[h.Chunk] || i > 0 && h.Chunk <= a.Have[i-1].Chunk {
			return false
		}
	}
	return len(a.Why) <= maxWhy
}

const maxWhy = 200 // bytes

// asked serves a request, beside others, until the job ends.
func (j *Job) asked(from record.PeerID, payload []byte) {
	var q momentsAsk
	if err := record.Decode(payload, &q); err != nil || !j.moments.fits(from, q) {
		j.log.Warn("dropped a malformed request for optimizer state", "from", from, "err", err)
		return
	}
	select {
	case j.lending <- struct{}{}:
		j.loops.Go(func() {
			defer func() { <-j.lending }()
			j.lend(from, q)
		})
	default:
		j.sendMoments(from, momentsAnswer{ID: q.ID, Why: "busy with other requests"})
	}
}

// fits says whether a member may ask that.
func (m *moments) fits(from record.PeerID, q momentsAsk) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, c := range q.Chunks {
		if c < 0 || c >= len(m.chunks) || i > 0 && c <= q.Chunks[i-1] {
			return false
		}
	}
	if m.plan == nil { // just begun: it has nothing, and says so
		return true
	}
	return slices.ContainsFunc(m.plan.Members, func(x member) bool { return x.ID == from })
}

func (j *Job) lend(from record.PeerID, q momentsAsk) {
	if q.Send {
		j.moments.reach(j.ctx, q.Step, lendWait)
	}
	j.moments.prune()
	a := momentsAnswer{ID: q.ID}
	for _, c := range q.Chunks {
		if h, ok := j.moments.best(c, q.Step); ok {
			a.Have = append(a.Have, h)
		}
	}
	j.sendMoments(from, a)
	if !q.Send {
		return
	}
	for _, h := range a.Have {
		x, ok, err := j.moments.state(h)
		if err == nil && ok && setOf(&x) != 0 {
			err = j.moments.send(j.ctx.Done(), from, vectorMeta{Job: j.task.ID, Ask: q.ID}, &x)
		}
		if err != nil {
			j.log.Warn("optimizer state not handed over", "to", from, "chunk", h.Chunk, "err", err)
			return
		}
		j.moments.noteLent(h)
	}
}

// noteLent notes what somebody else has.
func (m *moments) noteLent(h momentsOf) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lent[h.Chunk] = h.Step
	m.notify()
}

// handOver waits, on a clean leave, until others have the state of the chunks that this node owned last.
func (m *moments) handOver(ctx context.Context) {
	_ = m.wait(ctx, func() bool {
		if m.plan == nil || len(m.plan.Members) < 2 {
			return true
		}
		for c, o := range m.owners {
			if step, ok := m.trainer.Kept(c); o == m.self && ok && m.lent[c] < step {
				return false
			}
		}
		return true
	})
}

func (j *Job) sendMoments(to record.PeerID, a momentsAnswer) {
	if b, err := record.Encode(a); err == nil {
		j.sendRaw(to, topicMomentsAnswer, b)
	}
}

// best is the newest state of a chunk that this node has, not newer than step.
func (m *moments) best(c int, step uint64) (h momentsOf, ok bool) {
	own, has, err := m.trainer.Tag(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && has && own.Step <= step {
		h, ok = momentsOf{c, m.truth(c, own.Step), own.Count}, true
	}
	if x, has := m.mirrors[c]; has && x.Step <= step && (!ok || x.Step > h.Step) {
		h, ok = momentsOf{c, x.Step, x.Count}, true
	}
	return h, ok
}

// state is what best found; false: it is gone by now.
func (m *moments) state(h momentsOf) (trainer.Moments, bool, error) {
	m.mu.Lock()
	x, ok := m.mirrors[h.Chunk]
	m.mu.Unlock()
	if ok && x.Step == h.Step {
		return x, true, nil
	}
	x, ok, err := m.trainer.Moments(h.Chunk)
	m.mu.Lock()
	defer m.mu.Unlock()
	if truth := m.truth(h.Chunk, x.Step); ok && truth != x.Step {
		x.Step, x.W = truth, nil
	}
	return x, ok && x.Step == h.Step, err
}

// truth is the step that a chunk's state is really of, where the trainer has it as that of a later one. Called with mu
// held.
func (m *moments) truth(c int, step uint64) uint64 {
	if x, ok := m.passed[c]; ok && x.as == step {
		return x.of
	}
	return step
}

// passed is state of one step that passes for that of another, until the chunk is stepped again.
type passed struct{ as, of uint64 }
