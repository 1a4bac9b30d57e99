package pipe

import "github.com/seed-7b27c88a/shoal/p2p/record"

// Book is what the leader of a round knows: which member finished which micro-batch.
type Book struct {
	plan Plan
	lost map[record.PeerID]bool
	done []map[uint32]record.PeerID // per stage
}

// NewBook begins a round.
func NewBook(p Plan) *Book {
	b := &Book{plan: p, lost: map[record.PeerID]bool{}}
	for range p.Stages {
		b.done = append(b.done, map[uint32]record.PeerID{})
	}
	return b
}

// Finished notes an effect of a member. It returns false for what no member of the plan may say, and for a micro-batch that
// another one has finished already.
func (b *Book) Finished(id record.PeerID, micro uint32) bool {
	s := stageOf(b.plan, id)
	if s < 0 || b.lost[id] || int(micro) >= len(b.plan.Homes) {
		return false
	}
	if who, ok := b.done[s][micro]; ok && who != id {
		return false
	}
	b.done[s][micro] = id
	return true
}

// Lost forgets what a member finished.
func (b *Book) Lost(id record.PeerID) {
	b.lost[id] = true
	for _, done := range b.done {
		for micro, who := range done {
			if who == id {
				delete(done, micro)
			}
		}
	}
}

// Complete reports whether every stage has every micro-batch.
func (b *Book) Complete() bool {
	for _, done := range b.done {
		if len(done) < len(b.plan.Homes) {
			return false
		}
	}
	return true
}

// Stuck is the first stage without a replica, for which the job has to wait.
func (b *Book) Stuck() (stage int, stuck bool) {
	for s, replicas := range b.plan.Stages {
		left := 0
		for _, r := range replicas {
			if !b.lost[r.ID] {
				left++
			}
		}
		if left == 0 {
			return s, true
		}
	}
	return 0, false
}

// Share gives micro-batches homes: each to the member of stage 0 that would be done with it first.
func Share(first []Member, micros int) []int {
	homes, has := make([]int, micros), make([]int, len(first))
	for i := range homes {
		best := 0
		for k, m := range first {
			if (has[k]+1)*int(max(m.Pace, 1)) < (has[best]+1)*int(max(first[best].Pace, 1)) {
				best = k
			}
		}
		homes[i] = best
		has[best]++
	}
	return homes
}
