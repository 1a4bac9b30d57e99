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

// Validate tells what is wrong with p. Machine ignores a plan that is not valid.
func (p *Plan) Validate() error {
	_, err := newView(p, Member{})
	return err
}

func (p *Plan) check() error {
	if len(p.Members) == 0 || len(p.Members) > maxMembers || len(p.Pieces) > maxPieces {
		return fmt.Errorf("plan of %d members and %d pieces", len(p.Members), len(p.Pieces))
	}
	if !p.Codec.Valid() {
		return fmt.Errorf("plan in an unknown codec: %v", p.Codec)
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

// view is a plan as one member sees it. It is never changed once made.
type view struct {
	*Plan
	me     int             // index into Members, or -1: this run of this node is not a member
	space  int             // elements of the index space
	owned  []int           // chunks this member owns, ascending
	order  map[PieceID]int // place of a piece in the sum
	member map[string]int  // peer id → index into Members
}

// newView looks at a plan as self does, or tells what is wrong with it. The tables that it makes anyway show what stands
// in the plan twice.
func newView(p *Plan, self Member) (*view, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	v := &view{Plan: p, me: -1, order: make(map[PieceID]int, len(p.Pieces)), member: make(map[string]int, len(p.Members))}
	for i, m := range p.Members {
		v.member[string(m.ID)] = i
		if len(v.member) <= i {
			return nil, fmt.Errorf("plan lists member %s twice", m.ID)
		}
		if m.ID == self.ID && m.Boot == self.Boot {
			v.me = i
		}
	}
	for i, id := range p.Pieces {
		v.order[id] = i
		if id.Round != p.Round || id.Attempt > p.Attempt || len(v.order) <= i {
			return nil, fmt.Errorf("plan of round %d attempt %d lists piece %+v twice or out of place", p.Round, p.Attempt, id)
		}
	}
	for c, os := range p.Owners {
		if os[0] == v.me {
			v.owned = append(v.owned, c)
		}
	}
	if n := len(p.Chunks); n > 0 {
		v.space = p.Chunks[n-1].Hi
	}
	return v, nil
}

// targets are the members that need member m's slice of chunk c: the owner, or the owner's first successor when the
// owner is m itself, so that one death after the cut loses nothing.
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
