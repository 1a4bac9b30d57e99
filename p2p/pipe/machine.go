package pipe

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Member is a replica of a stage.
type Member struct {
	ID   record.PeerID
	Pace time.Duration // that a micro-batch takes it, both ways: measured in earlier rounds, or told
}

// Plan is a round of a pipeline.
type Plan struct {
	Key
	Stages [][]Member    // per stage, its replicas
	Homes  []int         // per micro-batch: the replica of stage 0 that begins it; see Share
	Delay  time.Duration // of a line between stages with what a micro-batch sends over it, one way
	Elems  int           // of a frame at most; 0: no frame has data
	Live   []int         // per stage: micro-batches that a replica keeps alive at most; nil: Lives
}

// Task is one pass through the member's own stage. Data is its input: what the stage before gave, or the gradient of what this
// one gave; nil at the ends of the pipeline.
type Task struct {
	Micro uint32
	Back  bool
	Data  []float32
}

// Effect is something the machine wants done. Exactly one field is set.
type Effect struct {
	Send     *Send
	Finished *Finished
}

// Send is a frame for a peer. That it got there is not asked back: a peer that cannot be reached is lost, and whoever
// decides that calls Lost on every member.
type Send struct {
	To    record.PeerID
	Frame Frame
}

// Finished says that a micro-batch went both ways through this member's stage: it is part of its sum.
type Finished struct{ Micro uint32 }

// Machine is a round of a pipeline at one member; the package comment is its specification.
type Machine struct {
	plan   Plan
	self   record.PeerID
	stage  int
	lost   map[record.PeerID]bool
	held   map[uint32]*hold
	queue  []uint32 // wait to go forward, the oldest first
	back   []uint32 // wait to come back
	ready  []uint32 // went forward and wait for a replica with room
	live   int      // went forward and have not come back
	next   map[record.PeerID]*peer
	pace   time.Duration // of this member
	forth  time.Duration // of its last forward pass
	doing  *Task
	effect []Effect
}

// hold is what this member knows of a micro-batch.
type hold struct {
	from, to record.PeerID // who has it in the stages before and behind; "": nobody known
	in, out  []float32
	d        []float32 // gradient of out
	dIn      []float32
	again    bool // somebody had it here before: the next stage may have it already
	asked    map[record.PeerID]bool
	forward  bool // done
	graded   bool // d is here
	finished bool
	waiting  bool  // in ready
	settled  *peer // the replica whose gradient has come
}

// peer is what this member knows of a replica of the next stage.
type peer struct {
	out    int // micro-batches sent to it whose gradient has not come
	others int // that it has from others, as it last said
	pace   time.Duration
}

// New starts a round. A member of the first stage has tasks at once.
func New(p Plan, self record.PeerID) (*Machine, error) {
	m := &Machine{plan: p, self: self, stage: -1, lost: map[record.PeerID]bool{}, held: map[uint32]*hold{}, next: map[record.PeerID]*peer{}}
	for s, replicas := range p.Stages {
		for _, r := range replicas {
			if r.ID == self {
				m.stage, m.pace = s, r.Pace
			}
		}
	}
	if m.stage < 0 {
		return nil, fmt.Errorf("pipe: %s is no member of the plan", self)
	}
	if len(m.plan.Live) == 0 {
		m.plan.Live = Lives(p.Stages, p.Delay)
	}
	if !m.last() {
		for _, r := range p.Stages[m.stage+1] {
			m.next[r.ID] = &peer{pace: max(r.Pace, 1)}
		}
	}
	m.begin(false)
	return m, nil
}

// Lives is how many micro-batches a replica of each stage keeps alive: in a pipeline of p stages with as many replicas
// each, p-i for stage i (from 0), which is 1F1B's. Where a later stage has more replicas than this one, so much more; where
// lines take delay each way, as many as are on them meanwhile; and two more where replicas differ by more than a fifth in
// pace, because their order is no lockstep then (measured: one of three four times slower costs 39 % without, 11 % with).
func Lives(stages [][]Member, delay time.Duration) []int {
	live := make([]int, len(stages))
	for i, s := range stages {
		widest := len(s)
		for _, r := range stages[i:] {
			widest = max(widest, len(r))
		}
		live[i] = ((len(stages)-i)*widest + len(s) - 1) / max(len(s), 1)
		if len(s) > 0 && s[0].Pace > 0 {
			onLines := 2 * delay * time.Duration(len(stages)-1-i)
			live[i] += int((onLines + s[0].Pace - 1) / s[0].Pace)
		}
		if mixed(stages) {
			live[i] += 2
		}
	}
	return live
}

// mixed reports whether a stage has replicas of different pace.
func mixed(stages [][]Member) bool {
	for _, s := range stages {
		for _, r := range s {
			if 5*r.Pace > 6*s[0].Pace || 6*r.Pace < 5*s[0].Pace {
				return true
			}
		}
	}
	return false
}

func (m *Machine) last() bool { return m.stage == len(m.plan.Stages)-1 }

// home is the member of stage 0 that has to begin a micro-batch: the planned one, or if that is lost the next behind it.
func (m *Machine) home(micro uint32) record.PeerID {
	first := m.plan.Stages[0]
	planned := m.plan.Homes[micro]
	if id := first[planned].ID; !m.lost[id] {
		return id
	}
	var others []record.PeerID
	for i, r := range first {
		if i != planned && !m.lost[r.ID] {
			others = append(others, r.ID)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return others[int(micro)%len(others)]
}

// begin takes up those micro-batches of stage 0 that are this member's.
func (m *Machine) begin(again bool) {
	if m.stage != 0 {
		return
	}
	for i := range m.plan.Homes {
		if id := uint32(i); m.held[id] == nil && m.home(id) == m.self {
			m.take(id, &hold{again: again})
		}
	}
}

func (m *Machine) take(micro uint32, h *hold) {
	m.held[micro] = h
	m.queue = append(m.queue, micro)
	if h.again && !m.last() {
		m.ask(micro, h)
	}
}

// ask finds out whether the next stage has the micro-batch already.
func (m *Machine) ask(micro uint32, h *hold) {
	h.asked = map[record.PeerID]bool{}
	var lost []record.PeerID
	for id := range m.lost {
		lost = append(lost, id)
	}
	slices.Sort(lost)
	for _, r := range m.plan.Stages[m.stage+1] {
		if !m.lost[r.ID] {
			h.asked[r.ID] = true
			m.send(r.ID, Frame{Kind: Ask, Micro: micro, Lost: lost})
		}
	}
}

func (m *Machine) send(to record.PeerID, f Frame) {
	f.Key, f.From = m.plan.Key, uint32(m.stage)
	m.effect = append(m.effect, Effect{Send: &Send{to, f}})
}

// Effects are those since the last call, in order.
func (m *Machine) Effects() []Effect {
	e := m.effect
	m.effect = nil
	return e
}

// Live is how many micro-batches went forward here and have not come back.
func (m *Machine) Live() int { return m.live }

// Task is what to compute now; false: nothing, or the last one is not Computed yet. Passes that come back go first: they
// end the life of a micro-batch.
func (m *Machine) Task() (Task, bool) {
	if m.doing != nil {
		return Task{}, false
	}
	switch {
	case len(m.back) > 0:
		micro := m.back[0]
		m.back = m.back[1:]
		m.doing = &Task{micro, true, m.held[micro].d}
	case len(m.queue) > 0 && m.live < m.plan.Live[m.stage]:
		micro := m.queue[0]
		m.queue = m.queue[1:]
		m.live++
		m.doing = &Task{micro, false, m.held[micro].in}
	default:
		return Task{}, false
	}
	return *m.doing, true
}

// Computed hands over what became of the task, and how long that took. Of a stage at whose end there is nothing to hand on,
// out is nil.
func (m *Machine) Computed(out []float32, took time.Duration) {
	t := *m.doing
	m.doing = nil
	h := m.held[t.Micro]
	if !t.Back {
		m.forth = took
		h.forward, h.out, h.in = true, out, nil
		m.forwardDone(t.Micro, h)
		return
	}
	m.measure(m.forth + took)
	m.live--
	h.finished, h.dIn, h.d = true, out, nil
	m.effect = append(m.effect, Effect{Finished: &Finished{t.Micro}})
	m.handBack(t.Micro, h)
}

// measure follows the member's pace: the mean of what it was and what the last micro-batch took.
func (m *Machine) measure(took time.Duration) {
	if m.pace == 0 {
		m.pace = took
	}
	m.pace = (m.pace + took) / 2
}

func (m *Machine) forwardDone(micro uint32, h *hold) {
	if m.last() || h.graded {
		m.back = append(m.back, micro)
	}
	if !m.last() && h.to == "" && len(h.asked) == 0 { // also where the gradient is here, but of one that was lost since
		m.enqueue(micro, h)
	}
}

// enqueue lets a micro-batch wait for a replica of the next stage.
func (m *Machine) enqueue(micro uint32, h *hold) {
	if !h.waiting {
		h.waiting = true
		m.ready = append(m.ready, micro)
	}
	m.dispatch()
}

// dispatch sends micro-batches on, the oldest first. Each goes to the replica that is expected to be done with it first; where
// that has no room, it waits: a slower one with room would be later.
func (m *Machine) dispatch() {
	for len(m.ready) > 0 {
		micro := m.ready[0]
		to := m.choose()
		if to == "" || m.next[to].out > m.room(to, m.next[to].pace) {
			return
		}
		m.ready = m.ready[1:]
		h := m.held[micro]
		h.to, h.waiting = to, false
		m.next[to].out++
		m.send(to, Frame{Kind: Forward, Micro: micro, Again: h.again, Data: h.out})
	}
}

// room is how many micro-batches a replica of some pace may have from one member whose gradient has not come, less one:
// those that it keeps alive, and those on the lines.
func (m *Machine) room(id record.PeerID, pace time.Duration) int {
	pace = max(pace, 1)
	return m.plan.Live[m.stageOf(id)] + int((2*m.plan.Delay+pace-1)/pace)
}

// choose is the live replica of the next stage with the earliest expected completion; "": there is none.
func (m *Machine) choose() (best record.PeerID) {
	var least time.Duration
	next := m.plan.Stages[m.stage+1]
	own := max(slices.IndexFunc(m.plan.Stages[m.stage], func(r Member) bool { return r.ID == m.self }), 0)
	for i := range next { // each sender begins with another, or all would send their first to the same
		r := next[(own+i)%len(next)]
		p := m.next[r.ID]
		if m.lost[r.ID] {
			continue
		}
		if t := time.Duration(p.out+p.others+1) * p.pace; best == "" || t < least {
			best, least = r.ID, t
		}
	}
	return best
}

// handBack sends the gradient to who has the micro-batch in the stage before.
func (m *Machine) handBack(micro uint32, h *hold) {
	if m.stage > 0 && h.from != "" {
		load := 0
		for _, o := range m.held {
			if !o.finished && o.from != h.from {
				load++
			}
		}
		m.send(h.from, Frame{Kind: Backward, Micro: micro, Data: h.dIn, Pace: m.pace, Load: uint32(load)})
	}
}
