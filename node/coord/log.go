package coord

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

const (
	compactAfter = 1000            // entries that a seat keeps
	maxEntry     = 192 << 10       // bytes of an entry, so that it fits into a push and a state
	proposeAgain = 2 * time.Second // a proposal not seen until then is made again, if it still makes sense
)

// openSeat opens this node's seat in a log; voters are empty when it joins a running one.
func (m *Machine) openSeat(k replog.Key, voters []replog.Voter) {
	seat, err := replog.New(replog.Config{Key: k, Self: m.voter(), Voters: voters, Seed: m.self.Boot})
	if err != nil {
		m.note("cannot take a seat in the log: %v", err)
		return
	}
	m.closeSeat()
	m.seat, m.log = seat, k
}

func (m *Machine) closeSeat() {
	m.seat, m.lead = nil, nil
}

// seatKeepers brings the seat in line with the keepers that the log names.
func (m *Machine) seatKeepers() {
	if m.replaying {
		return
	}
	mine := false
	for _, k := range m.job.keepers {
		mine = mine || k == m.voter()
	}
	if mine && m.seat == nil {
		m.openSeat(m.logKey(), nil)
	}
	if m.seat != nil && m.job.keepers[0].Boot != 0 {
		m.seat.SetVoters(m.job.keepers)
	}
	if !mine && m.seat != nil && m.me.unseat == 0 {
		m.me.unseat = m.now + slot // until then the old and the new voters may still need this seat
	}
	if mine {
		m.me.unseat = 0
	}
}

func (m *Machine) logKey() replog.Key {
	return replog.Key{Job: m.g.Job, Generation: m.job.gen, Reset: m.job.reset}
}

// drainLog takes what the seat has ready. It returns false when there was nothing.
func (m *Machine) drainLog() bool {
	if m.seat == nil {
		return false
	}
	rd, ok := m.seat.Ready()
	if !ok {
		return false
	}
	seat := m.seat // an entry may close it
	if rd.Snapshot != nil {
		m.adoptState(rd.Snapshot)
	}
	for _, data := range rd.Committed {
		m.commitData(data)
	}
	if rd.Leader != nil && m.seat == seat {
		m.leaderChanged(*rd.Leader)
	}
	for _, s := range rd.Send {
		m.emit(SendLog{To: s.To, Payload: s.Payload})
	}
	if m.seat == seat && (rd.NeedState || seat.Len() > compactAfter) {
		m.compact()
	}
	return true
}

func (m *Machine) compact() {
	data, err := record.Encode(signedOf(m.job.spine))
	if err == nil {
		err = m.seat.Compact(data)
	}
	if err != nil {
		m.note("the log cannot be compacted: %v", err)
	}
}

// adoptState takes the state that another keeper's log begins with here, if it is newer.
func (m *Machine) adoptState(data []byte) {
	var spine []*record.Signed
	if len(data) == 0 || record.Decode(data, &spine) != nil {
		return
	}
	if es, err := m.openSpine(spine); err == nil && m.sameLog(es) && m.ahead(es) {
		m.adoptSpine(es)
	}
}

// commitData applies an entry that raft committed.
func (m *Machine) commitData(data []byte) {
	var s record.Signed
	if err := record.Decode(data, &s); err != nil {
		return
	}
	e, err := OpenEntry(m.self.Signer, &s)
	if err != nil {
		m.note("the log holds an entry that cannot be read: %v", err)
		return
	}
	m.apply(e)
	if m.lead != nil && m.lead.flight.cid == e.CID {
		m.lead.flight = flight{}
	}
}

// flight is the proposal under way.
type flight struct {
	cid   cid.Cid
	since time.Duration
	on    bool
}

func (f flight) pending(now time.Duration) bool { return f.on && now < f.since+proposeAgain }

// propose asks the log to append an entry after the head. One at a time: a second one would be void.
func (m *Machine) propose(context string, round uint64, attempt uint32, body checked) {
	h := m.header(context, round, attempt)
	h.Parent = m.job.head
	c, err := m.proposeEntry(h, body)
	if err != nil {
		m.note("%s of round %d cannot be proposed: %v", context, round, err)
	}
	m.lead.flight = flight{c, m.now, true}
}

func (m *Machine) proposeEntry(h record.Header, body checked) (cid.Cid, error) {
	if err := body.check(); err != nil { // nothing that others would refuse may fill the log
		return cid.Undef, err
	}
	s, c, err := m.self.Sign(h, pack(body))
	if err != nil {
		return c, err
	}
	if len(s.Record) > maxEntry {
		return c, fmt.Errorf("%d bytes, limit %d", len(s.Record), maxEntry)
	}
	data, err := record.Encode(s)
	if err != nil {
		return c, err
	}
	return c, m.seat.Propose(data)
}
