package collective

import (
	"errors"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// reachAgain is how long a peer counts as out of reach: plans that take it into account send nothing to it, so that nobody
// would notice if it could be reached. A guess; finding out anew costs an attempt or two.
const reachAgain = 5 * time.Minute

// noteReach notes whether something got through to a peer; a refusal did, too. Called with mu held.
func (g *Group) noteReach(to record.PeerID, err error) {
	var refused Refusal
	switch {
	case err == nil, errors.As(err, &refused):
		if r := g.retries[to]; r != nil {
			r.since = time.Time{}
		}
	case !errors.Is(err, xfer.ErrCanceled):
		if r := g.retryOf(to); r.since.IsZero() {
			r.since = time.Now()
		}
	}
}

// Unreached lists the peers, sorted, that nothing has got through to for at least so long.
func (g *Group) Unreached(after time.Duration) (ids []record.PeerID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for id, r := range g.retries {
		switch d := now.Sub(r.since); {
		case r.since.IsZero():
		case d > reachAgain:
			r.since = time.Time{}
		case d >= after:
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
