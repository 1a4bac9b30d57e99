package collective

import (
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// newStagedSwarm is six members, two in each of three stages, that share five to eight chunks; the last chunk is of both ends.
func newStagedSwarm(t *testing.T, seed uint64) *testSwarm {
	s := newTestSwarm(t, seed, 6, 5+int(seed%4))
	s.stages, s.batch = 3, []int{1, 2, 3, 4, 5, 6}
	return s
}

// stageOf is the stage of a member, from 1 on.
func (s *testSwarm) stageOf(id record.PeerID) int {
	return 1 + slices.IndexFunc(s.nodes, func(n *testNode) bool { return n.self.ID == id })%s.stages
}

// cover says which stages have numbers where: stage s is unit s-1, chunks go through units in turn.
func (s *testSwarm) cover() [][]bool {
	of := make([][]int, len(s.chunks))
	for c := range of {
		of[c] = []int{c % s.stages}
	}
	of[len(of)-1] = []int{0, s.stages - 1}
	cuts := make([]int, s.stages+1)
	for i := range cuts {
		cuts[i] = i
	}
	return Covers(of, cuts)
}

func (s *testSwarm) adds(id PieceID, chunk int) bool {
	return s.stages == 0 || s.cover()[chunk][s.stageOf(id.Member)]
}

// stagePiece is v where its maker's stage has numbers. Tokens and loss are the last stage's to tell.
func (s *testSwarm) stagePiece(id PieceID, v []float32) (Mark, []float32) {
	for c, ch := range s.chunks {
		if !s.adds(id, c) {
			clear(v[ch.Lo:ch.Hi])
		}
	}
	k := Mark{PieceID: id}
	if s.stageOf(id.Member) == s.stages {
		k.Weight, k.Loss = int64(len(s.posns[id])), float64(len(s.posns[id]))/3
	}
	return k, v
}

// seat gives a plan its stages.
func (s *testSwarm) seat(p *Plan) {
	if s.stages == 0 {
		return
	}
	for _, n := range s.nodes { // who is gone and left a piece behind is told of, so that its stage is known
		if !n.alive && slices.ContainsFunc(p.Pieces, func(id PieceID) bool { return id.Member == n.self.ID }) {
			p.Members = append(p.Members, Member{ID: n.self.ID, Boot: n.self.Boot, Syncing: true})
		}
	}
	p.Covers = s.cover()
	for _, m := range p.Members {
		p.Stage = append(p.Stage, s.stageOf(m.ID))
	}
}

// works tells whether member i of a plan works on its j-th position: in each stage somebody does.
func (s *testSwarm) works(p *Plan, i, j int) bool {
	if s.stages == 0 {
		return j%len(p.Members) == i
	}
	mates, mine := 0, 0
	for k := range p.Members {
		if p.Stage[k] == p.Stage[i] {
			if k < i {
				mine++
			}
			mates++
		}
	}
	return j%mates == mine
}

// concerning are the marks that an owner has to tell of.
func (s *testSwarm) concerning(id record.PeerID, set []Mark) []Mark {
	i := slices.IndexFunc(s.plan.Members, func(m Member) bool { return m.ID == id })
	return slices.DeleteFunc(slices.Clone(set), func(k Mark) bool { return !s.plan.Concerns(i, k.PieceID) })
}

// Members of a pipeline agree on the sum over all stages in any order of arrival, and no slice travels where there are no numbers.
func TestStages(t *testing.T) {
	for seed := range uint64(100) {
		s := newStagedSwarm(t, seed)
		for range 2 {
			s.round++
			s.attempt = 0
			s.newPlan(s.batch, nil)
			for s.step() {
				for _, f := range s.flying {
					if f.frame != nil && f.frame.Kind == FrameContribution && !s.adds(f.frame.Mark.PieceID, f.frame.Chunk) {
						t.Fatalf("seed %d: chunk %d of a piece of stage %d travels", seed, f.frame.Chunk, s.stageOf(f.from))
					}
				}
			}
			s.check()
			s.commit()
		}
	}
}

// A member of a stage dies at any moment: pieces that the owners hold count on, or the stages begin anew.
func TestStagesDeath(t *testing.T) {
	kept := 0
	for victim := range 6 {
		for at := 1; ; at += 5 {
			s := newStagedSwarm(t, uint64(at))
			s.round = 1
			s.newPlan(s.batch, nil)
			going := true
			for i := 0; i < at && going; i++ {
				going = s.step()
			}
			if !going {
				break // the round was over before
			}
			s.nodes[victim].alive = false
			for range at % 7 { // the others notice later
				s.step()
			}
			s.goOn()
			for s.step() {
			}
			s.check()
			kept += s.kept
		}
	}
	if kept == 0 {
		t.Error("no cut outlived a death")
	}
}

// A stage that learns nothing still says what it worked on.
func TestCovers(t *testing.T) {
	got := Covers([][]int{{1}, {2, 3}}, []int{0, 1, 3, 4})
	want := [][]bool{{false, true, true, false}, {false, false, true, true}}
	for c := range want {
		if !slices.Equal(got[c], want[c]) {
			t.Errorf("chunk %d: %v, want %v", c, got[c], want[c])
		}
	}
}
