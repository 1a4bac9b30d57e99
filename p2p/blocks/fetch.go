package blocks

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	maxDonors = 8           // asked at once
	streams   = 2           // to each that delivers: one stream's window leaves a tenth of a lossy line unused (measured)
	poll      = time.Second // how often from is asked, and donors for what they lacked
	patience  = time.Minute // without any block, before a fetch fails
)

// fetch is one call of Fetch.
type fetch struct {
	x     *Exchange
	cids  []cid.Cid // distinct; the indexes of plan
	start time.Time
	ended chan struct{} // one pending signal: a session ended, or began to deliver

	mu       sync.Mutex // guards the rest
	plan     *plan
	sessions map[*donor]*session
	peers    map[record.PeerID]*source
	last     time.Duration // when the latest block came
	fatal    error         // the store failed
	over     chan struct{} // closed when the plan is finished or fatal is set

	pairs pairing

	progressMu sync.Mutex // serialises calls of progress
	progress   func(done, total int)
	told       int
}

// source is what a fetch remembers of a peer.
type source struct {
	live   int  // streams
	bulk   int  // of them with a connection of their own that brought blocks
	gave   bool // a block
	banned bool
	fails  int           // in a row
	next   time.Duration // not asked before
	why    string        // what went wrong last
}

// newFetch finds out what is missing.
func (x *Exchange) newFetch(ctx context.Context, cids []cid.Cid, progress func(done, total int)) (*fetch, error) {
	f := &fetch{
		x: x, start: time.Now(), ended: make(chan struct{}, 1), over: make(chan struct{}), progress: progress, told: -1,
		sessions: map[*donor]*session{}, peers: map[record.PeerID]*source{},
	}
	seen := make(map[cid.Cid]bool, len(cids))
	for _, c := range cids {
		if err := checkCID(c); err != nil {
			return nil, err
		}
		if !seen[c] {
			seen[c] = true
			f.cids = append(f.cids, c)
		}
	}
	f.plan = newPlan(len(f.cids), x.h.Boot())
	for i, c := range f.cids {
		ok, err := x.store.Has(ctx, c)
		if err != nil {
			return nil, err
		}
		if ok {
			f.plan.finish(i)
		}
	}
	if f.plan.finished() {
		close(f.over)
	}
	return f, nil
}

func (f *fetch) now() time.Duration { return time.Since(f.start) }

// run asks donors until all is there.
func (f *fetch) run(ctx context.Context, from func() []record.PeerID) error {
	f.report()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		f.mu.Lock()
		finished, fatal, idle := f.plan.finished(), f.fatal, f.now()-f.last
		f.mu.Unlock()
		switch {
		case finished || fatal != nil:
			return fatal
		case idle > patience:
			return f.explain(fmt.Errorf("no block came for %v", patience))
		}
		for _, p := range f.ready(from()) {
			wg.Go(func() { f.ask(ctx, p) })
		}
		select {
		case <-ctx.Done():
			return f.explain(context.Cause(ctx))
		case <-f.over:
		case <-f.ended:
		case <-tick.C:
		}
	}
}

// ready takes the peers to ask now, direct ones before relayed ones; a peer to which another stream shall be opened is
// among them.
func (f *fetch) ready(peers []record.PeerID) (out []record.PeerID) {
	relayed := f.relayed()
	peers = slices.Clone(peers)
	slices.SortStableFunc(peers, func(a, b record.PeerID) int { return cmp.Compare(relayed[a], relayed[b]) })
	f.mu.Lock()
	defer f.mu.Unlock()
	live := 0
	for _, s := range f.peers {
		live += min(s.live, 1)
	}
	for _, p := range peers {
		s := f.peers[p]
		if s == nil {
			s = &source{}
			f.peers[p] = s
		}
		if p == f.x.h.ID() || s.banned || f.now() < s.next {
			continue
		}
		if s.live == 0 && live < maxDonors || s.gave && 0 < s.live && s.live < streams && f.plan.plenty() {
			live += 1 - min(s.live, 1)
			s.live++
			out = append(out, p)
		}
	}
	return out
}

// relayed has 1 for each peer that only a relay connects to this node.
func (f *fetch) relayed() map[record.PeerID]int {
	out := map[record.PeerID]int{}
	for _, p := range f.x.h.Peers() {
		if p.Relayed {
			out[p.ID] = 1
		}
	}
	return out
}

// ask runs one session and remembers how it ended.
func (f *fetch) ask(ctx context.Context, peer record.PeerID) {
	delivered, err := f.session(ctx, peer)
	f.mu.Lock()
	s := f.peers[peer]
	s.live--
	if delivered > 0 {
		s.fails = 0
	}
	if err != nil {
		s.fails++
		s.next = f.now() + min(500*time.Millisecond<<min(s.fails, 8), 30*time.Second)
		s.why = err.Error()
		s.banned = s.banned || errors.Is(err, errWrong) || errors.Is(err, errFrame)
	}
	f.mu.Unlock()
	f.wake()
}

// wake makes run look whom to ask.
func (f *fetch) wake() {
	select {
	case f.ended <- struct{}{}:
	default:
	}
}

// have marks blocks as present, whoever brought them, and tells who is asked for them in vain.
func (f *fetch) have(blocks ...int) {
	f.mu.Lock()
	for _, b := range blocks {
		for _, c := range f.plan.finish(b) {
			if s := f.sessions[c.from]; s != nil {
				s.post(request{kind: kindCancel, seq: c.seq})
			}
		}
	}
	f.last = f.now()
	if f.plan.finished() {
		f.end()
	}
	f.mu.Unlock()
	f.report()
}

// end wakes run. The caller holds mu.
func (f *fetch) end() {
	select {
	case <-f.over:
	default:
		close(f.over)
	}
}

// report tells the progress, if there is any.
func (f *fetch) report() {
	if f.progress == nil {
		return
	}
	f.progressMu.Lock()
	defer f.progressMu.Unlock()
	f.mu.Lock()
	done, total := f.plan.done, f.plan.total
	f.mu.Unlock()
	if done > f.told {
		f.told = done
		f.progress(done, total)
	}
}

var errWrong = errors.New("sent bytes that do not match their content identifier")

// keep puts a block into the store. t is its part, whose beginning another donor may have sent.
func (f *fetch) keep(ctx context.Context, d *donor, block int, t *part, data []byte) error {
	c := f.cids[block]
	err := f.put(ctx, c, data)
	if err == nil {
		t.drop()
		f.have(block)
		return nil
	}
	// Only now is the block hashed a second time: to know whose fault it was.
	wrong := !matches(c, data)
	if wrong {
		t.drop()
	} else {
		t.save(data)
		t.close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan.failed(d, block)
	switch {
	case wrong && len(t.begin) > 0:
		return nil // fetched whole next time; then it is clear who lies
	case wrong:
		return errWrong
	case ctx.Err() == nil && f.fatal == nil:
		f.fatal = fmt.Errorf("store block %s: %w", c, err)
		f.end()
	}
	return err
}

func matches(c cid.Cid, data []byte) bool {
	d, err := mh.Decode(c.Hash())
	sum := sha256.Sum256(data)
	return err == nil && bytes.Equal(d.Digest, sum[:])
}

// explain adds to why what is missing and who was asked.
func (f *fetch) explain(why error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := ""
	for i, c := range f.cids {
		if !f.plan.isDone.get(i) {
			first = c.String()
			break
		}
	}
	var asked []string
	for p, s := range f.peers {
		asked = append(asked, fmt.Sprintf("%s: %s", p, cmp.Or(s.why, "connected")))
	}
	slices.Sort(asked)
	who := "nobody to ask: wait for peers or connect some"
	if len(asked) > 0 {
		who = "asked " + strings.Join(asked[:min(len(asked), 4)], "; ")
	}
	return fmt.Errorf("%d of %d blocks missing (first %s), %s: %w", f.plan.total-f.plan.done, f.plan.total, first, who, why)
}
