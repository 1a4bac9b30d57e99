package swarm

import "github.com/seed-7b27c88a/shoal/p2p/record"

// Clones notices an identity that runs twice, usually a home directory copied to a second machine.
//
// Every start of a node draws a random boot id, so a boot id that was superseded never comes back, unless both
// processes live. One greeting may be what a dead process left in a buffer, and the living one greets again after it:
// that makes two returns; the third is proof.
type Clones struct {
	seen map[record.PeerID]*boots
}

// maxTracked bounds the identities remembered; beyond it the table starts again from nothing, which only delays
// detection.
const maxTracked = 4096

type boots struct {
	current uint64
	past    [4]uint64 // superseded boot ids, newest first; 0 is none
	returns int       // how often a superseded one came back
}

// Seen records that id greeted with boot, and reports whether id is now known to run twice.
func (c *Clones) Seen(id record.PeerID, boot uint64) bool {
	if c.seen == nil || len(c.seen) >= maxTracked {
		c.seen = map[record.PeerID]*boots{}
	}
	b := c.seen[id]
	if b == nil {
		c.seen[id] = &boots{current: boot}
		return false
	}
	if boot != b.current {
		b.supersede(boot)
	}
	return b.returns >= 3
}

func (b *boots) supersede(boot uint64) {
	for _, p := range b.past {
		if p == boot {
			b.returns++
			break
		}
	}
	copy(b.past[1:], b.past[:])
	b.past[0], b.current = b.current, boot
}
