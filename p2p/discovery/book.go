package discovery

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Source says where an address came from.
type Source string

const (
	FromBootstrap Source = "bootstrap" // the owner's list; tried for ever
	FromLAN       Source = "lan"       // multicast DNS
	FromCache     Source = "cache"     // known from an earlier start
	FromPeer      Source = "peer"      // another node told of it
	FromDHT       Source = "dht"       // the swarm's DHT names it
	FromInbound   Source = "inbound"   // it connected to us
)

const (
	maxBook       = 1024 // peers remembered, besides bootstraps and connected ones
	maxPerTeller  = 64   // unconnected peers believed from one other node
	maxAddrs      = 8    // per peer
	maxDialing    = 8
	firstBackoff  = 500 * time.Millisecond
	maxBackoff    = time.Minute
	aloneBackoff  = 10 * time.Second // of bootstraps while nobody is up: who is alone asks more often,
	aloneTries    = 30               // for some minutes
	giveUp        = 8                // failed dials in a row, about two minutes, after which hearsay is forgotten
	giveUpGood    = 500              // the same for a peer that was connected once: most of a day
	redialDelay   = 100 * time.Millisecond
	politeness    = 300 * time.Millisecond // the peer with the larger ID waits so long for the other's dial
	maxErrorBytes = 300
)

// book is what is known of peers that could be dialed, and when to dial which. It is a plain state machine: the
// caller brings the time since the start and performs the dials.
type book struct {
	self    record.PeerID
	want    int // dial while fewer peers are up
	entries map[record.PeerID]*entry
	up      int
	dialing int
}

type entry struct {
	id      record.PeerID
	addrs   []string // each ending in /p2p/<id>
	source  Source
	teller  record.PeerID // with FromPeer
	up      bool
	good    bool // was up once
	needed  bool // dialed also when enough others are up
	dialing bool
	tries   int
	fails   int           // in a row
	next    time.Duration // not dialed before
	last    time.Duration // of the latest dial's end
	err     string        // why it failed; empty: it did not
}

func newBook(self record.PeerID, want int) *book {
	return &book{self: self, want: want, entries: map[record.PeerID]*entry{}}
}

// found adds addresses of a peer and reports whether one is new. New addresses of a peer that did not answer are a
// reason to try at once.
func (b *book) found(src Source, teller, id record.PeerID, addrs []string, now time.Duration) (fresh bool) {
	if id == b.self {
		return false
	}
	e := b.entries[id]
	if e == nil {
		if src == FromPeer && b.told(teller) >= maxPerTeller || !b.room(src) {
			return false
		}
		e = &entry{id: id, source: src, teller: teller, next: now + b.wait(src, id)}
		b.entries[id] = e
	}
	if src == FromBootstrap {
		e.source = src
	}
	fresh = e.learn(addrs)
	if fresh && e.fails > 0 && src != FromPeer { // a stranger's word does not lift a backoff
		e.fails, e.next = 0, now
	}
	return fresh
}

// need says that this node works with id: it is dialed also when enough others are up.
func (b *book) need(id record.PeerID) {
	if e := b.entries[id]; e != nil {
		e.needed = true
	}
}

// learn keeps the newest addresses and reports whether one is new.
func (e *entry) learn(addrs []string) (fresh bool) {
	for _, a := range addrs {
		if !slices.Contains(e.addrs, a) {
			e.addrs = append(e.addrs, a)
			fresh = true
		}
	}
	e.addrs = e.addrs[max(0, len(e.addrs)-maxAddrs):]
	return fresh
}

// wait keeps two nodes that learn of each other from dialing each other at the same moment.
func (b *book) wait(src Source, id record.PeerID) time.Duration {
	if (src == FromLAN || src == FromPeer || src == FromDHT) && b.self > id {
		return politeness
	}
	return 0
}

func (b *book) told(teller record.PeerID) (n int) {
	for _, e := range b.entries {
		if e.source == FromPeer && e.teller == teller && !e.up {
			n++
		}
	}
	return n
}

// room makes place for one more entry by forgetting the most hopeless one.
func (b *book) room(src Source) bool {
	if src == FromBootstrap || src == FromInbound || len(b.entries) < maxBook {
		return true
	}
	var worst *entry
	for _, e := range b.entries {
		if !e.up && !e.dialing && e.source != FromBootstrap &&
			(worst == nil || e.fails > worst.fails || e.fails == worst.fails && e.id > worst.id) {
			worst = e
		}
	}
	if worst == nil || worst.fails == 0 {
		return false
	}
	delete(b.entries, worst.id)
	return true
}

// connected says that a peer is up.
func (b *book) connected(id record.PeerID, addrs []string) {
	b.found(FromInbound, "", id, addrs, 0)
	if e := b.entries[id]; e != nil && !e.up {
		e.up, e.good, e.fails, e.err = true, true, 0, ""
		b.up++
	}
}

// lost says that a peer is down; a broken connection is soon dialed again.
func (b *book) lost(id record.PeerID, now time.Duration) {
	if e := b.entries[id]; e != nil && e.up {
		e.up, e.next = false, now+redialDelay+b.wait(FromLAN, id)
		e.tries, e.err = 0, "the connection ended"
		b.up--
	}
	if b.up == 0 {
		for _, e := range b.entries {
			if e.source == FromBootstrap {
				e.next = min(e.next, now+jitter(e.id, 0, aloneBackoff))
			}
		}
	}
}

// due takes the peers to dial now, bootstraps first, then in order of their time.
func (b *book) due(now time.Duration) []*entry {
	var out []*entry
	for _, e := range b.entries {
		if b.dialable(e) && e.next <= now {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(x, y *entry) int {
		return cmp.Or(-cmpBool(x.source == FromBootstrap, y.source == FromBootstrap), cmp.Compare(x.next, y.next), cmp.Compare(x.id, y.id))
	})
	out = out[:min(len(out), maxDialing-b.dialing)]
	for _, e := range out {
		e.dialing = true
		b.dialing++
	}
	return out
}

func (b *book) dialable(e *entry) bool {
	return (b.up < b.want || e.needed) && !e.up && !e.dialing && len(e.addrs) > 0
}

// dialed takes a dial's outcome; why is empty when it succeeded.
func (b *book) dialed(id record.PeerID, why string, now time.Duration) {
	e := b.entries[id]
	if e == nil || !e.dialing {
		return
	}
	e.dialing = false
	b.dialing--
	e.tries++
	e.last, e.err = now, why[:min(len(why), maxErrorBytes)]
	// A connection that is not followed by a hello (another swarm, a refusing gate) counts as a failure too.
	if e.fails++; e.hopeless() {
		delete(b.entries, id)
		return
	}
	most := maxBackoff
	if b.up == 0 && e.source == FromBootstrap && e.fails < aloneTries {
		most = aloneBackoff
	}
	e.next = now + jitter(id, e.fails, min(firstBackoff<<min(e.fails, 16), most))
	if e.up {
		e.fails = 0
	}
}

func (e *entry) hopeless() bool {
	limit := giveUp
	if e.good {
		limit = giveUpGood
	}
	return e.fails >= limit && e.source != FromBootstrap && !e.up
}

// next is how long to sleep until something is due; at most a minute.
func (b *book) next(now time.Duration) time.Duration {
	d := maxBackoff
	if b.dialing >= maxDialing {
		return d // a dial's end wakes us
	}
	for _, e := range b.entries {
		if b.dialable(e) {
			d = min(d, max(e.next-now, 0))
		}
	}
	return d
}

// jitter spreads d over 3/4 to 5/4 of itself, so that a swarm does not fall on a returning bootstrap as one.
func jitter(id record.PeerID, n int, d time.Duration) time.Duration { return spread(string(id), n, d) }

func spread(seed string, n int, d time.Duration) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(seed))
	h.Write([]byte{byte(n)})
	return d*3/4 + d/2*time.Duration(h.Sum32()%1024)/1024
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
