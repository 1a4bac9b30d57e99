package discovery

import (
	"cmp"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
)

// schedule decides when to tell the DHT of a key and when to search it. It is a plain state machine: the caller brings the
// time since the start and performs one operation after the other.
type schedule struct {
	self string // spreads the times of different nodes
	keys map[cid.Cid]*rendezvous
}

// rendezvous is one key under which nodes meet.
type rendezvous struct {
	key    cid.Cid
	offer  bool // this node provides it
	seek   bool // this node looks for others
	always bool // also while enough peers are up: members of a job need each other

	provide, find           time.Duration // when next
	providing, finding      int           // times in a row that it failed, or brought nothing
	lastProvided, lastFound time.Duration
}

const (
	provideEvery = time.Hour       // records last two days; nodes that hold them may leave sooner
	findFirst    = 5 * time.Second // doubled up to findEvery
	findEvery    = 10 * time.Minute
	rvFirst      = 2 * time.Second // after a failure, doubled up to rvMax
	rvMax        = 2 * time.Minute
	maxKeys      = 256
)

// add makes key known. It reports false when too many are.
func (s *schedule) add(key cid.Cid, offer, seek, always bool, now time.Duration) bool {
	if s.keys[key] == nil && len(s.keys) >= maxKeys {
		return false
	}
	s.keys[key] = &rendezvous{key: key, offer: offer, seek: seek, always: always, provide: now, find: now}
	return true
}

func (s *schedule) drop(key cid.Cid) { delete(s.keys, key) }

// op is one thing to do.
type op struct {
	key     cid.Cid
	provide bool // else find
}

// next takes the operation that is due longest. dialable: this node has an address that others can use; short: fewer
// peers are up than wanted.
func (s *schedule) next(now time.Duration, dialable, short bool) (op, bool) {
	best, at := op{}, now+1
	for _, r := range s.sorted() {
		if r.offer && dialable && r.provide < at {
			best, at = op{r.key, true}, r.provide
		}
		if r.seek && (short || r.always) && r.find < at {
			best, at = op{r.key, false}, r.find
		}
	}
	return best, at <= now
}

// done takes an operation's outcome: n nodes were found, or the DHT could be told (err false).
func (s *schedule) done(o op, failed bool, now time.Duration) {
	r := s.keys[o.key]
	if r == nil {
		return
	}
	wait := func(first, most time.Duration, n int) time.Duration {
		return spread(s.self+o.key.KeyString(), n, min(first<<min(n, 16), most))
	}
	switch {
	case o.provide && failed:
		r.provide = now + wait(rvFirst, rvMax, r.providing)
		r.providing++
	case o.provide:
		r.providing, r.lastProvided = 0, now
		r.provide = now + wait(provideEvery, provideEvery, 0)
	case failed:
		r.find = now + wait(rvFirst, rvMax, r.finding)
		r.finding++
	default:
		r.find = now + wait(findFirst, findEvery, r.finding)
		r.finding, r.lastFound = r.finding+1, now
	}
}

// moved says that this node's addresses changed: what the DHT was told is stale.
func (s *schedule) moved(now time.Duration) {
	for _, r := range s.keys {
		r.provide, r.providing = now, 0
	}
}

// alone says that the last peer left: looking starts over.
func (s *schedule) alone(now time.Duration) {
	for _, r := range s.keys {
		r.find, r.finding = min(r.find, now+rvFirst), 0
	}
}

func (s *schedule) sorted() []*rendezvous {
	out := make([]*rendezvous, 0, len(s.keys))
	for _, r := range s.keys {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *rendezvous) int { return cmp.Compare(a.key.KeyString(), b.key.KeyString()) })
	return out
}
