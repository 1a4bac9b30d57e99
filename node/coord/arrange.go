package coord

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Who holds which stage is decided by Pipeline.Arrange; when it is asked, and what is made of the answer, is decided here.
// Moving a member to another stage costs it the loading of other weights. So stages stay as they are while each has a
// member, and change for speed alone only after a better arrangement was there round after round.

const (
	// betterBy is how much shorter another arrangement's expected step has to be, and betterRounds for how many rounds in a
	// row. Paces that members measure differ by a tenth between rounds.
	betterBy     = 1.15
	betterRounds = 3
	arrangeAgain = time.Second // the same nodes that did not suffice are asked for again

	// moveTakes is what members lose to a change of stages, which the rounds that are left have to win back. A guess: a
	// gigabyte of weights comes off a disk in some seconds.
	moveTakes = 5 * time.Second
)

// arranging is what the leader remembers of arrangements.
type arranging struct {
	better uint64 // rounds in a row in which another one was better
	moves  int    // for speed: after each it takes twice as many rounds for another one
	round  uint64 // the last of them
	failed string // the nodes that did not suffice
	err    error
	at     time.Duration
}

// arrange gives rows their stages.
func (m *Machine) arrange(rows []Row, round uint64) ([]Stage, error) {
	nodes := make([]Node, len(rows))
	names := ""
	for i, r := range rows {
		nodes[i] = m.nodeOf(r)
		names += fmt.Sprint(r.ID, r.Boot, " ")
	}
	a := &m.lead.arranging
	if a.err != nil && a.failed == names && m.now < a.at+arrangeAgain {
		return nil, a.err
	}
	stages, err := m.rearrange(nodes, round)
	a.err, a.failed, a.at = err, names, m.now
	return stages, err
}

func (m *Machine) nodeOf(r Row) Node {
	n := Node{ID: r.ID, Boot: r.Boot}
	if p := m.peers.find(r.ID); p != nil {
		n.Capability, n.Pace = p.cap, p.pace
	}
	return n
}

// rearrange keeps the stages in force where it can.
func (m *Machine) rearrange(nodes []Node, round uint64) ([]Stage, error) {
	now := m.job.stages
	kept, whole := remaining(now, nodes)
	if !whole {
		s, err := m.ask(nodes, now)
		if err != nil && now != nil {
			if s, anew := m.ask(nodes, nil); anew == nil {
				return s, nil
			}
		}
		return s, err
	}
	if len(nodes) > seated(kept) {
		if s, err := m.ask(nodes, now); err == nil && grownFrom(kept, s) {
			kept = s
		}
	}
	best, err := m.ask(nodes, nil)
	if err != nil || !m.pays(m.expected(nodes, kept), m.expected(nodes, best), round) {
		m.lead.arranging.better = 0
		return kept, nil
	}
	a := &m.lead.arranging
	if a.round != round {
		a.better, a.round = a.better+1, round
	}
	if a.better < betterRounds<<min(a.moves, 10) {
		return kept, nil
	}
	a.better, a.moves = 0, a.moves+1
	m.note("round %d: stages are cut anew: a step takes %.2f of the time", round, m.expected(nodes, best)/m.expected(nodes, kept))
	return best, nil
}

// pays tells whether a micro-batch that takes best seconds in the slowest stage in place of kept is worth a move.
func (m *Machine) pays(kept, best float64, round uint64) bool {
	left := float64(len(m.micros(round))) * float64(m.g.Steps-min(round, m.g.Steps))
	return best*betterBy <= kept && (kept-best)*left >= moveTakes.Seconds()
}

// ask takes what Arrange says, if it can be carried out.
func (m *Machine) ask(nodes []Node, now []Stage) ([]Stage, error) {
	stages, err := m.g.Pipeline.Arrange(nodes, now)
	if err != nil {
		return nil, err
	}
	at, seen := 0, map[record.PeerID]bool{}
	for i, s := range stages {
		if s.Lo != at || s.Hi <= s.Lo || len(s.Members) == 0 {
			return nil, fmt.Errorf("stage %d of units %d to %d with %d members", i+1, s.Lo, s.Hi, len(s.Members))
		}
		for _, id := range s.Members {
			if seen[id] || !slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == id }) {
				return nil, fmt.Errorf("stage %d has %s, who is not there or elsewhere", i+1, id)
			}
			seen[id] = true
		}
		at = s.Hi
	}
	if at != m.g.Pipeline.Units || len(stages) > maxStages {
		return nil, fmt.Errorf("%d stages of %d units, the model has %d", len(stages), at, m.g.Pipeline.Units)
	}
	return stages, nil
}

// remaining is stages with those of their members that are among nodes; whole: each has one.
func remaining(stages []Stage, nodes []Node) (out []Stage, whole bool) {
	whole = len(stages) > 0
	for _, s := range stages {
		s.Members = slices.DeleteFunc(slices.Clone(s.Members), func(id record.PeerID) bool {
			return !slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == id })
		})
		out, whole = append(out, s), whole && len(s.Members) > 0
	}
	return out, whole
}

func seated(stages []Stage) (n int) {
	for _, s := range stages {
		n += len(s.Members)
	}
	return n
}

// grownFrom tells whether b is a with more members.
func grownFrom(a, b []Stage) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		missing := func(id record.PeerID) bool { return !slices.Contains(b[i].Members, id) }
		if a[i].Lo != b[i].Lo || a[i].Hi != b[i].Hi || slices.ContainsFunc(a[i].Members, missing) {
			return false
		}
	}
	return true
}

// expected is what a micro-batch costs in the slowest stage of an arrangement, in seconds: what a step of many lasts.
func (m *Machine) expected(nodes []Node, stages []Stage) (worst float64) {
	for _, s := range stages {
		speed := 0.0
		for _, id := range s.Members {
			i := slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })
			speed += 1 / m.paceOf(nodes[i], nodes)
		}
		worst = max(worst, m.g.Pipeline.cost(s.Lo, s.Hi)/speed)
	}
	return worst
}

// paceOf is a node's seconds per micro-batch and unit: measured, or told, or else the mean of the others.
func (m *Machine) paceOf(n Node, among []Node) float64 {
	if p := m.knownPace(n); p > 0 {
		return p
	}
	sum, known := 0.0, 0.0
	for _, o := range among {
		if p := m.knownPace(o); p > 0 {
			sum, known = sum+p, known+1
		}
	}
	if known == 0 {
		return 1e-3 // all the same
	}
	return sum / known
}

func (m *Machine) knownPace(n Node) float64 {
	switch {
	case n.Pace > 0:
		return n.Pace.Seconds()
	case n.Capability.RowsPerSec > 0:
		return min(float64(max(m.g.MicroBatch, 1))/n.Capability.RowsPerSec/float64(m.g.Pipeline.Units), mostWait.Seconds())
	}
	return 0
}

// place gives the working rows of a draft their stages; who has none is not needed in this round.
func (m *Machine) place(d *draft, of []Row) error {
	if len(of) == 0 {
		return fmt.Errorf("nobody is ready")
	}
	stages, err := m.arrange(of, d.round)
	if err != nil {
		return err
	}
	nodes := make([]Node, len(of))
	for i, r := range of {
		nodes[i] = m.nodeOf(r)
	}
	d.cuts = []int{0}
	for s, st := range stages {
		d.cuts = append(d.cuts, st.Hi)
		for _, id := range st.Members {
			i := slices.IndexFunc(d.rows, func(r Row) bool { return r.ID == id })
			n := nodes[slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })]
			d.rows[i].Stage = s + 1
			d.rows[i].Pace = seconds(m.paceOf(n, nodes) * m.g.Pipeline.cost(st.Lo, st.Hi))
		}
	}
	d.delay = m.lineDelay(of)
	settle(d.rows)
	return nil
}

// settle lets those rows work that have a stage. Somebody has to own.
func settle(rows []Row) {
	for i := range rows {
		if rows[i].Stage == 0 {
			rows[i].Syncing, rows[i].Aside, rows[i].Pace = true, false, 0
		}
	}
	if len(able(rows)) == 0 {
		for i := range rows {
			rows[i].Aside = false
		}
	}
}

// lineDelay is how long the slowest line takes for what a micro-batch sends over it.
func (m *Machine) lineDelay(rows []Row) (most time.Duration) {
	for _, r := range rows {
		if rate := m.uplink(r); rate > 0 {
			most = max(most, seconds(float64(m.g.Pipeline.Bytes)/rate))
		}
	}
	return most
}

// flowPieces are one per working member; after the seal those that d keeps.
func (d *draft) flowPieces() []Piece {
	if len(d.kept) > 0 {
		return d.kept
	}
	attempt := d.attempt
	if d.begun != nil {
		attempt = d.begun.Attempt
	}
	var out []Piece
	for _, i := range working(d.rows) {
		out = append(out, Piece{Attempt: attempt, ID: d.rows[i].ID, Boot: d.rows[i].Boot})
	}
	return out
}

// flowTime is how long a round's pipe is expected to run, and how long the slowest takes to send a vector.
func (m *Machine) flowTime(e *PlanEntry, round uint64) (work, send time.Duration) {
	vector := float64(4 * m.g.Chunks[len(m.g.Chunks)-1].Hi) // bytes
	speed, longest := make([]float64, len(e.Cuts)), make([]time.Duration, len(e.Cuts))
	for _, i := range working(e.Members) {
		r := e.Members[i]
		speed[r.Stage] += 1 / max(r.Pace.Seconds(), 1e-9)
		longest[r.Stage] = max(longest[r.Stage], r.Pace)
		if rate := m.uplink(r); rate > 0 {
			send = max(send, seconds(vector/rate))
		}
	}
	slowest := 0.0
	for s := 1; s < len(e.Cuts); s++ {
		work = min(work+longest[s]+2*e.Delay, mostWait)
		slowest = max(slowest, float64(len(m.micros(round)))/max(speed[s], math.SmallestNonzeroFloat64))
	}
	return min(work+seconds(slowest), mostWait), max(send, m.slowestOwner(e))
}

// rowsBut are the working rows without some.
func rowsBut(rows []Row, but []record.PeerID) []Row {
	return slices.DeleteFunc(rowsAt(rows, working(rows)), func(r Row) bool { return slices.Contains(but, r.ID) })
}
