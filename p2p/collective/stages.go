package collective

import (
	"fmt"
	"slices"
)

// Covers says which stages of a pipeline (from 1 on) have a gradient in which chunks: of holds per chunk the model's units whose weights it
// has (two for tied embeddings), cuts the first unit of each stage and the end of the last. A stage that learns nothing has
// a piece nevertheless, which says what it worked on: it counts as zeros in the first chunk.
func Covers(of [][]int, cuts []int) [][]bool {
	covers := make([][]bool, len(of))
	for c := range of {
		covers[c] = make([]bool, len(cuts))
	}
	for s := 1; s < len(cuts); s++ {
		learns := false
		for c, units := range of {
			covers[c][s] = slices.ContainsFunc(units, func(u int) bool { return cuts[s-1] <= u && u < cuts[s] })
			learns = learns || covers[c][s]
		}
		if !learns && len(of) > 0 {
			covers[0][s] = true
		}
	}
	return covers
}

// checkStages judges Stage and Covers.
func (p *Plan) checkStages() error {
	if p.Stage == nil {
		return nil
	}
	if len(p.Stage) != len(p.Members) || len(p.Covers) != len(p.Chunks) {
		return fmt.Errorf("plan of %d members and %d chunks has stages of %d and %d", len(p.Members), len(p.Chunks), len(p.Stage), len(p.Covers))
	}
	for _, s := range p.Stage {
		for c := range p.Covers {
			if s < 0 || s >= len(p.Covers[c]) {
				return fmt.Errorf("plan has a member in stage %d, chunk %d knows %d", s, c, len(p.Covers[c]))
			}
		}
	}
	for _, id := range p.Pieces {
		i := slices.IndexFunc(p.Members, func(m Member) bool { return m.ID == id.Member })
		if i < 0 || p.Stage[i] == 0 {
			return fmt.Errorf("plan lists a piece of %s, who is in no stage", id.Member)
		}
	}
	return nil
}

// adds says whether a piece of the plan has numbers in chunk c. Without stages all have.
func (v *view) adds(id PieceID, c int) bool {
	if v.Stage == nil {
		return true
	}
	i, ok := v.member[string(id.Member)]
	return ok && v.Covers[c][v.Stage[i]] // of a piece that the plan does not list, nobody wants any
}

// concerns says whether this member adds up anything of a piece: it tells the leader of no other.
func (v *view) concerns(id PieceID) bool { return v.Stage == nil || v.expected(id) > 0 }

// expected is how many of the chunks that this member owns a piece has numbers in.
func (v *view) expected(id PieceID) (n int) {
	if v.Stage == nil {
		return len(v.owned)
	}
	for _, c := range v.owned {
		if v.adds(id, c) {
			n++
		}
	}
	return n
}

// Concerns says whether the member at a place among Members adds up anything of a piece, so that its Have lists the piece when
// it is complete there. The plan must be valid.
func (p *Plan) Concerns(member int, id PieceID) bool {
	if p.Validate() != nil || member < 0 || member >= len(p.Members) {
		return false
	}
	v := &view{Plan: p, index: p.seen, me: member}
	for c, os := range p.Owners {
		if os[0] == member && v.adds(id, c) {
			return true
		}
	}
	return false
}

// addedTo are the pieces of a set that have numbers in chunk c.
func (v *view) addedTo(c int, set []PieceID) []PieceID {
	if v.Stage == nil {
		return set
	}
	var in []PieceID
	for _, id := range set {
		if v.adds(id, c) {
			in = append(in, id)
		}
	}
	return in
}

// concerning are the marks of a set that concern this member.
func (v *view) concerning(set []Mark) []Mark {
	if v.Stage == nil {
		return set
	}
	in := make([]Mark, 0, len(set))
	for _, k := range set {
		if v.concerns(k.PieceID) {
			in = append(in, k)
		}
	}
	return in
}
