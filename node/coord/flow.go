package coord

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// flowMsg tells the leader how far a member is in the pipe that a plan began. It says all of it each time, so that a new
// leader needs one from each.
type flowMsg struct {
	Plan   cid.Cid         `cbor:"1,keyasint"`           // that began the pipe
	Done   bits            `cbor:"2,keyasint"`           // micro-batches that are part of its sum
	Sealed bool            `cbor:"3,keyasint,omitempty"` // the sum is handed over
	Lost   []record.PeerID `cbor:"4,keyasint,omitempty"` // to whom its frames did not get
	Pace   time.Duration   `cbor:"5,keyasint,omitempty"` // see Node.Pace
}

// sealMsg is the leader's word that every stage has every micro-batch, and that the receiver has those of Done.
type sealMsg struct {
	Plan cid.Cid `cbor:"1,keyasint"` // that began the pipe
	Done bits    `cbor:"2,keyasint"`
}

func (f *flowMsg) check() error {
	if len(f.Done) > maxMicros/8 || len(f.Lost) > maxApart || f.Pace < 0 || f.Pace > mostWait {
		return fmt.Errorf("%d bytes of micro-batches, %d lost, pace %v", len(f.Done), len(f.Lost), f.Pace)
	}
	return checkIDs(f.Lost)
}

func (s *sealMsg) check() error {
	if len(s.Done) > maxMicros/8 {
		return fmt.Errorf("%d bytes of micro-batches", len(s.Done))
	}
	return nil
}

// flowing is this member's part in a pipe.
type flowing struct {
	pipe   collective.Key // zero: in none
	piece  collective.PieceID
	done   bits
	sealed bool
	lost   []record.PeerID // to whom frames did not get
	cost   float64         // of its units, in mean units
}

// startFlow enters the pipe of the plan in force, or goes on in it. nil: row i has no part in one.
func (m *Machine) startFlow(p *planned, i int) *Flow {
	row := p.Members[i]
	if row.Stage == 0 {
		m.me.flow = flowing{}
		return nil
	}
	f := &Flow{Pipe: m.pipePlan(p), Micros: m.micros(p.key.Round), Part: [2]int{p.Cuts[row.Stage-1], p.Cuts[row.Stage]}, Lost: p.lost()}
	f.Piece = collective.PieceID{Round: p.key.Round, Attempt: f.Pipe.Attempt, Member: m.self.ID, Boot: m.self.Boot}
	if m.me.flow.pipe != f.Pipe.Key {
		f.Begin = true
		m.me.flow = flowing{
			pipe: f.Pipe.Key, piece: f.Piece, done: newBits(len(f.Micros)), cost: m.g.Pipeline.cost(f.Part[0], f.Part[1]),
		}
	}
	return f
}

// startSealed ends the pipe where the plan in force says what pieces hold.
func (m *Machine) startSealed(p *planned) {
	if !p.sealed() {
		return
	}
	var own bits
	for _, pc := range p.Pieces {
		if pc.ID == m.self.ID && pc.Boot == m.self.Boot {
			own = microsIn(pc.Ranges, m.micros(p.key.Round))
		}
	}
	if own == nil {
		own = m.me.flow.done // nobody needs it any more
	}
	m.seal(own)
}

// flowDone counts a micro-batch that is part of this member's sum.
func (m *Machine) flowDone(e FlowDone) {
	f := &m.me.flow
	if e.Key != f.pipe || f.sealed || int(e.Micro) >= 8*len(f.done) {
		return
	}
	f.done.set(int(e.Micro))
	if e.Took > 0 {
		pace := times(e.Took, 1/f.cost)
		if m.me.pace > 0 {
			pace = (pace + m.me.pace) / 2
		}
		m.me.pace = pace
	}
	m.sendFlow()
}

// flowLost passes on whom a frame did not get to.
func (m *Machine) flowLost(e FlowLost) {
	f := &m.me.flow
	if e.Key != f.pipe || slices.Contains(f.lost, e.ID) || len(f.lost) >= maxApart || checkID(e.ID) != nil {
		return
	}
	f.lost = append(f.lost, e.ID)
	m.sendFlow()
}

func (m *Machine) sendFlow() {
	p, f := m.job.plan, &m.me.flow
	if p == nil || !f.pipe.Plan.Defined() || p.pipeKey() != f.pipe || m.guide.leader == "" {
		return
	}
	msg := flowMsg{Plan: f.pipe.Plan, Done: f.done, Sealed: f.sealed, Lost: f.lost, Pace: m.me.pace}
	m.send(m.guide.leader, m.header(contextFlow, p.key.Round, p.key.Attempt), msg)
}

// takeSeal takes the leader's word that the pipe is at its end.
func (m *Machine) takeSeal(o *opened, s *sealMsg) {
	if o.signer == m.guide.leader && m.me.flow.pipe.Plan.Defined() && s.Plan == m.me.flow.pipe.Plan {
		m.seal(s.Done)
	}
}

// seal hands over the piece, if it holds what the others count on.
func (m *Machine) seal(done bits) {
	f := &m.me.flow
	if p := m.job.plan; p == nil || !f.pipe.Plan.Defined() || f.sealed || p.pipeKey() != f.pipe {
		return
	}
	if bytes.Equal(done, f.done) {
		f.sealed = true
		m.emit(Seal{Key: m.job.plan.key, Piece: f.piece})
	}
	m.sendFlow()
}
