package pipe

import (
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// ErrStale: the frame belongs to another plan, or its sender is lost.
var ErrStale = errors.New("frame of another plan or of a lost member")

// Receive takes a frame from a peer. An error says why it was refused; nothing has changed then.
func (m *Machine) Receive(from record.PeerID, f Frame) error {
	if err := m.admit(from, f); err != nil {
		return err
	}
	switch f.Kind {
	case Forward:
		m.forward(from, f)
	case Backward:
		return m.backward(from, f)
	case Ask:
		m.asked(from, f)
	case Answer:
		m.answered(from, f)
	}
	return nil
}

// ErrFull: the sender has as many micro-batches here as it may.
var ErrFull = errors.New("too many micro-batches from one member")

// Wants says whether a frame's data are needed, before they are here; an error refuses the frame. arriving is how many
// frames of its kind are on their way in from the same member.
func (m *Machine) Wants(from record.PeerID, f Frame, arriving int) (bool, error) {
	if err := m.admit(from, f); err != nil {
		return false, err
	}
	h := m.held[f.Micro]
	switch {
	case f.Kind == Backward && h == nil:
		return false, m.neverHere(f)
	case f.Kind == Backward:
		return !h.graded, nil
	case f.Kind != Forward || h != nil:
		return false, nil
	}
	n := arriving
	for _, o := range m.held {
		if o.from == from && !o.finished {
			n++
		}
	}
	if n > 2*(m.room(m.self, m.pace)+1) { // paces are known a little differently on both sides
		return false, ErrFull
	}
	return true, nil
}

// admit checks who says what.
func (m *Machine) admit(from record.PeerID, f Frame) error {
	if f.Key != m.plan.Key || m.lost[from] {
		return ErrStale
	}
	side := -1 // of the sender
	if f.Kind == Backward || f.Kind == Answer {
		side = 1
	}
	if s := m.stageOf(from); s != m.stage+side || int(f.From) != s || int(f.Micro) >= len(m.plan.Homes) {
		return fmt.Errorf("pipe: %s frame of micro-batch %d from stage %d at stage %d", f.Kind, f.Micro, f.From, m.stage)
	}
	if f.Kind < Forward || f.Kind > Answer {
		return fmt.Errorf("pipe: frame of unknown kind %d", f.Kind)
	}
	return nil
}

func (m *Machine) neverHere(f Frame) error {
	return fmt.Errorf("pipe: gradient of micro-batch %d, which never was here", f.Micro)
}

func (m *Machine) stageOf(id record.PeerID) int { return stageOf(m.plan, id) }

// stageOf is the stage of a member, -1: none.
func stageOf(p Plan, id record.PeerID) int {
	for s, replicas := range p.Stages {
		for _, r := range replicas {
			if r.ID == id {
				return s
			}
		}
	}
	return -1
}

// forward takes a micro-batch in, or learns who has it now in the stage before.
func (m *Machine) forward(from record.PeerID, f Frame) {
	if m.held[f.Micro] != nil {
		m.claim(from, f.Micro)
		return
	}
	m.take(f.Micro, &hold{from: from, in: f.Data, again: f.Again})
}

// claim notes who has a micro-batch in the stage before, and gives it the gradient if that is here.
func (m *Machine) claim(from record.PeerID, micro uint32) {
	h := m.held[micro]
	h.from = from
	if h.finished {
		m.handBack(micro, h)
	}
}

// backward takes the gradient of what this member gave. The second one of a micro-batch is dropped.
func (m *Machine) backward(from record.PeerID, f Frame) error {
	h := m.held[f.Micro]
	if h == nil {
		return m.neverHere(f)
	}
	p := m.next[from]
	p.others = int(f.Load)
	if f.Pace > 0 {
		p.pace = f.Pace
	}
	if h.to == from && !h.returned(p) {
		p.out--
	}
	if !h.graded {
		h.graded, h.d = true, f.Data
		if h.to = from; h.forward {
			m.unready(f.Micro, h)
			m.back = append(m.back, f.Micro)
		}
	}
	m.dispatch()
	return nil
}

// returned notes that the gradient of the micro-batch came from its replica; true: that was so before.
func (h *hold) returned(p *peer) bool {
	was := h.settled == p
	h.settled = p
	return was
}

// unready takes a micro-batch from those that wait for a replica: one has it already.
func (m *Machine) unready(micro uint32, h *hold) {
	if !h.waiting {
		return
	}
	h.waiting = false
	for i, o := range m.ready {
		if o == micro {
			m.ready = append(m.ready[:i:i], m.ready[i+1:]...)
			return
		}
	}
}

// asked answers who took over a micro-batch in the stage before.
func (m *Machine) asked(from record.PeerID, f Frame) {
	for _, id := range f.Lost {
		m.Lost(id)
	}
	has := m.held[f.Micro] != nil
	m.send(from, Frame{Kind: Answer, Micro: f.Micro, Has: has})
	if has {
		m.claim(from, f.Micro)
	}
}

// answered notes whether a replica of the next stage has a micro-batch that was taken over here.
func (m *Machine) answered(from record.PeerID, f Frame) {
	h := m.held[f.Micro]
	if h == nil || !h.asked[from] {
		return
	}
	delete(h.asked, from)
	if f.Has {
		h.asked = nil
		if h.to == "" {
			h.to = from
			m.next[from].out++
		}
		return
	}
	m.heardAll(f.Micro, h)
}

// heardAll goes on with a micro-batch that nobody in the next stage has.
func (m *Machine) heardAll(micro uint32, h *hold) {
	if len(h.asked) == 0 && h.to == "" && h.forward && !h.graded {
		m.enqueue(micro, h)
	}
}

// Lost says that a member will not count in this plan: what it computed is lost with it. Whoever decides that tells
// every member, and never takes it back.
func (m *Machine) Lost(id record.PeerID) {
	if m.lost[id] || id == m.self {
		return
	}
	m.lost[id] = true
	switch m.stageOf(id) {
	case m.stage - 1:
		for _, h := range m.held {
			if h.from == id {
				h.from = "" // who takes over will say so
			}
		}
	case m.stage + 1:
		m.lostNext(id)
	}
	m.begin(true)
	if !m.last() {
		m.dispatch()
	}
}

// lostNext sends what a replica of the next stage had to others, even where its gradient has come: its sum is gone.
func (m *Machine) lostNext(id record.PeerID) {
	m.next[id].out = 0
	for i := range m.plan.Homes {
		h := m.held[uint32(i)]
		if h == nil {
			continue
		}
		if h.asked[id] {
			delete(h.asked, id)
			m.heardAll(uint32(i), h)
		}
		if h.to == id {
			h.to, h.again = "", true
			if h.forward {
				m.enqueue(uint32(i), h)
			}
		}
	}
}
