package collective

import (
	"errors"
	"fmt"
)

// Limits of a plan. A plan comes out of the log, so these only keep a broken one from hurting.
const (
	MaxChunkLen = 1 << 18 // elements of a chunk
	maxMembers  = 1 << 16
	maxPieces   = 1 << 16
	maxSpace    = 1 << 40 // elements of the index space
)

// Validate tells what is wrong with p. Machine ignores a plan that is not valid. A plan is looked at once: it must not be
// changed afterwards.
func (p *Plan) Validate() error {
	if p.seen == nil || p.seen.of != p {
		p.seen = &index{of: p}
		if p.seen.err = p.validate(); p.seen.err == nil {
			p.seen.fill(p)
		}
	}
	return p.seen.err
}

func (p *Plan) validate() error {
	if len(p.Members) == 0 || len(p.Members) > maxMembers || len(p.Pieces) > maxPieces {
		return fmt.Errorf("plan of %d members and %d pieces", len(p.Members), len(p.Pieces))
	}
	if !p.Codec.Valid() {
		return fmt.Errorf("plan in an unknown codec: %v", p.Codec)
	}
	if err := checkMembers(p.Members); err != nil {
		return err
	}
	if err := checkChunks(p.Chunks); err != nil {
		return err
	}
	if len(p.Owners) != len(p.Chunks) {
		return fmt.Errorf("plan of %d chunks has owners for %d", len(p.Chunks), len(p.Owners))
	}
	for c, os := range p.Owners {
		if err := checkOwners(os, p.Members); err != nil {
			return fmt.Errorf("chunk %d: %w", c, err)
		}
	}
	if err := p.checkStages(); err != nil {
		return err
	}
	seen := make(map[PieceID]bool, len(p.Pieces))
	for _, id := range p.Pieces {
		if id.Round != p.Round || id.Attempt > p.Attempt || seen[id] {
			return fmt.Errorf("plan of round %d attempt %d lists piece %+v twice or out of place", p.Round, p.Attempt, id)
		}
		seen[id] = true
	}
	return nil
}

func checkMembers(ms []Member) error {
	seen := make(map[string]bool, len(ms))
	for _, m := range ms {
		if seen[string(m.ID)] {
			return fmt.Errorf("plan lists member %s twice", m.ID)
		}
		seen[string(m.ID)] = true
	}
	return nil
}

func checkChunks(cs []Chunk) error {
	at := 0
	for i, c := range cs {
		if c.Lo != at || c.Hi <= c.Lo || c.Hi-c.Lo > MaxChunkLen || c.Hi > maxSpace {
			return fmt.Errorf("chunk %d is [%d, %d), want up to %d elements from %d on", i, c.Lo, c.Hi, MaxChunkLen, at)
		}
		if i > 0 && c.Unit < cs[i-1].Unit {
			return fmt.Errorf("chunk %d goes back to unit %d", i, c.Unit)
		}
		at = c.Hi
	}
	return nil
}

func checkOwners(os []int, ms []Member) error {
	if len(os) == 0 {
		return errors.New("no owner")
	}
	for i, o := range os {
		if o < 0 || o >= len(ms) || ms[o].Syncing {
			return fmt.Errorf("owner %d is not a working member", o)
		}
		for _, other := range os[:i] {
			if other == o {
				return fmt.Errorf("member %d stands twice among the owners", o)
			}
		}
	}
	return nil
}

// index is what is looked up in a plan, the same for every member. Machines in one process may share a plan.
type index struct {
	of     *Plan // which it was made of: a copy of the plan has to make its own
	err    error
	space  int             // elements of the index space
	order  map[PieceID]int // place of a piece in the sum
	member map[string]int  // peer id → index into Members
}

func (x *index) fill(p *Plan) {
	x.order, x.member = make(map[PieceID]int, len(p.Pieces)), make(map[string]int, len(p.Members))
	for i, m := range p.Members {
		x.member[string(m.ID)] = i
	}
	for i, id := range p.Pieces {
		x.order[id] = i
	}
	if n := len(p.Chunks); n > 0 {
		x.space = p.Chunks[n-1].Hi
	}
}

// view is a valid plan as one member sees it. It is never changed once made.
type view struct {
	*Plan
	*index
	me    int   // index into Members, or -1: this run of this node is not a member
	owned []int // chunks this member owns, ascending
}

func newView(p *Plan, self Member) *view {
	v := &view{Plan: p, index: p.seen, me: -1}
	if i, ok := v.member[string(self.ID)]; ok && p.Members[i].Boot == self.Boot {
		v.me = i
	}
	for c, os := range p.Owners {
		if os[0] == v.me {
			v.owned = append(v.owned, c)
		}
	}
	return v
}

// target is the member that needs member m's slice of chunk c: the owner, or the owner's first successor when the
// owner is m itself, so that its death, once that copy is through, loses nothing.
func (v *view) target(c, m int) (to int, ok bool) {
	os := v.Owners[c]
	if os[0] != m {
		return os[0], true
	}
	if len(os) > 1 {
		return os[1], true
	}
	return 0, false
}

// before says whether k lies before the plan in force: its frames can never count again.
func (k Key) before(o Key) bool {
	switch {
	case k.Generation != o.Generation:
		return k.Generation < o.Generation
	case k.Round != o.Round:
		return k.Round < o.Round
	}
	return k.Attempt < o.Attempt
}

// sameRound says whether two plans are attempts at one round, so that pieces of one may count in the other.
func (k Key) sameRound(o Key) bool {
	return k.Job == o.Job && k.Generation == o.Generation && k.Round == o.Round
}
