package p2p

import "github.com/seed-7b27c88a/shoal/p2p/record"

// message is one control message on its way to or from a peer.
type message struct {
	peer    record.PeerID // sender at a mailbox, receiver in a link
	topic   string
	payload []byte
}

func (m message) size() int { return len(m.topic) + len(m.payload) + 64 } // 64: what the message itself takes

// limits bounds a mailbox, per peer and in all.
type limits struct{ peerCount, peerBytes, count, bytes int }

// mailbox is a bounded queue in order of arrival. What does not fit displaces the oldest message of the same peer, and only
// then the oldest of all: a peer that floods loses its own messages. Not safe for concurrent use.
type mailbox struct {
	lim   limits
	q     []message
	bytes int
	per   map[record.PeerID]*usage
}

type usage struct{ count, bytes int }

func newMailbox(lim limits) *mailbox { return &mailbox{lim: lim, per: map[record.PeerID]*usage{}} }

// put appends m and drops what it displaces; it returns how many messages that were.
func (b *mailbox) put(m message) (dropped int) {
	if m.size() > min(b.lim.peerBytes, b.lim.bytes) {
		return 1
	}
	for u := b.per[m.peer]; u != nil && (u.count >= b.lim.peerCount || u.bytes+m.size() > b.lim.peerBytes); u = b.per[m.peer] {
		b.drop(m.peer)
		dropped++
	}
	for len(b.q) > 0 && (len(b.q) >= b.lim.count || b.bytes+m.size() > b.lim.bytes) {
		b.remove(0)
		dropped++
	}
	u := b.per[m.peer]
	if u == nil {
		u = &usage{}
		b.per[m.peer] = u
	}
	u.count, u.bytes, b.bytes = u.count+1, u.bytes+m.size(), b.bytes+m.size()
	b.q = append(b.q, m)
	return dropped
}

// drop removes the oldest message of a peer that has one.
func (b *mailbox) drop(peer record.PeerID) {
	for i := range b.q {
		if b.q[i].peer == peer {
			b.remove(i)
			return
		}
	}
}

// remove takes out the message at i.
func (b *mailbox) remove(i int) message {
	m := b.q[i]
	if i == 0 {
		b.q[0] = message{} // lets the payload go
		b.q = b.q[1:]
	} else {
		copy(b.q[i:], b.q[i+1:])
		b.q[len(b.q)-1] = message{}
		b.q = b.q[:len(b.q)-1]
	}
	u := b.per[m.peer]
	u.count, u.bytes, b.bytes = u.count-1, u.bytes-m.size(), b.bytes-m.size()
	if u.count == 0 {
		delete(b.per, m.peer)
	}
	return m
}

// take removes and returns the oldest message.
func (b *mailbox) take() (message, bool) {
	if len(b.q) == 0 {
		return message{}, false
	}
	return b.remove(0), true
}

// extract moves the messages of one topic to another mailbox, in order.
func (b *mailbox) extract(topic string, to *mailbox) {
	for i := 0; i < len(b.q); {
		if b.q[i].topic == topic {
			to.put(b.remove(i))
		} else {
			i++
		}
	}
}
