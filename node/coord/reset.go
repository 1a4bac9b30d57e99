package coord

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/replog"
)

// ResetHeld is a Reset with the signatures that make it hold. Its own header repeats the Reset's.
type ResetHeld struct {
	Reset  *record.Signed   `cbor:"1,keyasint"`
	Others []*record.Signed `cbor:"2,keyasint"` // the same record, signed by the other keepers
	entry  *ResetEntry
}

func (r *ResetHeld) check() error {
	if r.Reset == nil || len(r.Others) > maxKeepers {
		return fmt.Errorf("no Reset, or %d signatures", len(r.Others))
	}
	return nil
}

// open checks the signatures and that the wrapper's header is that of the Reset.
func (r *ResetHeld) open(by Signer, h record.Header) (cid.Cid, error) {
	rec, entry, c, err := openReset(by, r.Reset)
	if err != nil {
		return cid.Undef, err
	}
	signed := []record.PeerID{r.Reset.Signer}
	for _, o := range r.Others {
		if o == nil {
			return cid.Undef, fmt.Errorf("%w: no signature", record.ErrBad)
		}
		if _, oc, err := by.Open(o); err != nil || oc != c {
			return cid.Undef, fmt.Errorf("%w: signature of another Reset: %w", record.ErrBad, err)
		}
		signed = append(signed, o.Signer)
	}
	for _, k := range entry.Keepers {
		if !slices.Contains(signed, k.ID) {
			return cid.Undef, fmt.Errorf("%w: keeper %s has not signed the Reset", record.ErrBad, k.ID)
		}
	}
	if h.Job != rec.Header.Job || h.Generation != rec.Header.Generation || h.Reset != c ||
		h.Round != rec.Header.Round || h.Parent != rec.Header.Parent {
		return cid.Undef, fmt.Errorf("%w: header is not the Reset's", record.ErrBad)
	}
	r.entry = entry
	return c, nil
}

// contextResetBody is the record that keepers sign.
const contextResetBody = "shoal/reset-body"

func openReset(by Signer, s *record.Signed) (*record.Record, *ResetEntry, cid.Cid, error) {
	if s == nil {
		return nil, nil, cid.Undef, fmt.Errorf("%w: no Reset", record.ErrBad)
	}
	rec, c, err := by.Open(s)
	if err != nil {
		return nil, nil, cid.Undef, err
	}
	entry := new(ResetEntry)
	if rec.Header.Context != contextResetBody || rec.Header.Generation == 0 {
		return nil, nil, cid.Undef, fmt.Errorf("%w: %q is not a Reset", record.ErrBad, rec.Header.Context)
	}
	if err := record.Decode(rec.Body, entry); err != nil {
		return nil, nil, cid.Undef, err
	}
	if err := entry.check(); err != nil {
		return nil, nil, cid.Undef, fmt.Errorf("%w: reset: %w", record.ErrBad, err)
	}
	return rec, entry, c, nil
}

// signMsg asks a keeper-to-be to sign a Reset, and brings its signature back.
type signMsg struct {
	Reset  *record.Signed `cbor:"1,keyasint"`
	Answer bool           `cbor:"2,keyasint,omitempty"`
}

func (s *signMsg) check() error {
	if s.Reset == nil {
		return errors.New("no Reset")
	}
	return nil
}

// performReset begins the generation in the job.
func (m *Machine) performReset(e *Entry, held *ResetHeld) {
	j, r := m.job, held.entry
	j.gen, j.reset = e.Header.Generation, e.CID
	j.forks = forksOf([]*Entry{e})
	j.round, j.commit, j.tokens = e.Header.Round, e.Header.Parent, r.Tokens
	if j.cursor = m.g.afterRound(j.round); m.g.diloco() {
		j.cursor = cursor{r.Next, r.Open}
	}
	j.trail = []commitAt{{}}
	if j.round > 0 {
		j.trail = append(j.trail, commitAt{round: j.round, cid: j.commit, tokens: j.tokens, cursor: j.cursor})
	}
	j.settled = slices.Clone(r.Settled)
	j.keepers = r.Keepers
	j.bad, j.strikes, j.moves = 0, r.Strikes, r.Moves
	j.cancelled, j.endState, j.ended = "", "", false
}

// draftReset writes the Reset and asks its keepers to sign.
func (m *Machine) draftReset(here []answer, parent commitAt, regular bool) {
	j := m.job
	e := &ResetEntry{Keepers: m.benchOf(here, regular), Regular: regular, Forks: j.forks, Tokens: parent.tokens}
	if m.g.diloco() {
		e.Next, e.Open = parent.cursor.next, parent.cursor.open
	}
	e.Settled = j.settledUpTo(parent.round)
	e.Moves, e.Strikes = m.movesAfter(parent.round)
	e.Turned = e.Strikes > j.strikes
	h := m.header(contextResetBody, parent.round, 0)
	h.Generation, h.Reset, h.Parent = j.gen+1, j.reset, parent.cid
	s, c, err := m.self.Sign(h, e)
	if err != nil || !m.maySign(c) {
		return
	}
	m.court.draft, m.court.cid, m.court.entry, m.court.drafted = s, c, e, m.now
	m.court.sigs = nil
	switch {
	case m.turningBack():
		m.note("rounds %d to %d were not finite: the job goes back to step %d and takes the batches since then at its end", j.round-j.bad+1, j.round, parent.round)
	case m.lead != nil:
		m.note("nobody has the state of round %d any more: a new generation goes on after round %d", j.round, parent.round)
	default:
		without := (m.now - m.guide.heard).Round(time.Second)
		m.note("no majority of the keepers for %v: a new generation goes on after round %d", without, parent.round)
	}
	for _, k := range e.Keepers {
		if k.ID != m.self.ID {
			m.send(k.ID, m.header(contextSign, parent.round, 0), signMsg{Reset: s})
		}
	}
	m.finishDraft()
}

// benchOf chooses the keepers of the new generation: this node, old keepers, then the others in order.
func (m *Machine) benchOf(here []answer, regular bool) []replog.Voter {
	size := keepersFor(len(here))
	if regular {
		size = max(size, len(m.job.keepers)/2+1)
	}
	vs := []replog.Voter{m.voter()}
	for _, old := range []bool{true, false} {
		for _, a := range here {
			if len(vs) < size && a.id != m.self.ID && isKeeper(m.job.keepers, a.id) == old {
				vs = append(vs, replog.Voter{ID: a.id, Boot: a.boot})
			}
		}
	}
	if regular && !m.hasOldMajority(vs) { // this node is none of them: it makes room
		vs = append(vs[1:], vs[0])
	}
	return vs
}

// hasOldMajority tells whether more than half of the old keepers' peer ids are among vs.
func (m *Machine) hasOldMajority(vs []replog.Voter) bool {
	n := 0
	for _, k := range m.job.keepers {
		if isKeeper(vs, k.ID) {
			n++
		}
	}
	return 2*n > len(m.job.keepers)
}

// maySign keeps a member to one Reset per old generation and slot.
func (m *Machine) maySign(c cid.Cid) bool {
	s := &m.me.signed
	if s.gen == m.job.gen && s.reset == m.job.reset && s.cid != c && s.cid.Defined() && m.now < s.at+slot {
		return false
	}
	*s = signature{m.job.gen, m.job.reset, c, m.now}
	return true
}

type signature struct {
	gen   uint32
	reset cid.Cid
	cid   cid.Cid
	at    time.Duration
}

// takeSign signs a Reset that this member can agree to, or takes a signature of one it wrote.
func (m *Machine) takeSign(o *opened, b *signMsg) {
	if b.Answer {
		if c := m.court; c != nil && c.draft != nil {
			if _, got, err := m.self.Open(b.Reset); err == nil && got == c.cid && b.Reset.Signer == o.signer {
				c.sigs = append(c.sigs, b.Reset)
				m.finishDraft()
			}
		}
		return
	}
	rec, entry, c, err := openReset(m.self.Signer, b.Reset)
	if err != nil || !m.agrees(o.signer, rec.Header, entry) || !m.maySign(c) {
		return
	}
	s, own, err := m.self.Sign(rec.Header, rec.Body)
	if err == nil && own == c {
		m.send(o.signer, m.header(contextSign, rec.Header.Round, 0), signMsg{Reset: s, Answer: true})
	}
}

// agrees tells whether a Reset follows from what this member knows: it is of the next generation of the log here, no
// majority is seen (or the leader asks), and no newer commit is lost whose state is here.
func (m *Machine) agrees(writer record.PeerID, h record.Header, e *ResetEntry) bool {
	j := m.job
	if h.Job != m.g.Job || h.Generation != j.gen+1 || h.Reset != j.reset || !slices.Contains(e.Keepers, m.voter()) {
		return false
	}
	if !m.lost() && writer != m.guide.leader { // the leader itself may find that the job is stranded
		return false
	}
	if e.Regular != m.hasOldMajority(e.Keepers) && e.Regular {
		return false
	}
	if c, ok := j.at(h.Round); ok && m.g.diloco() && c.cid == h.Parent && !c.cursor.equal(cursor{e.Next, e.Open}) {
		return false
	}
	moves, strikes := m.movesAfter(h.Round)
	if !slices.Equal(e.Moves, moves) || e.Strikes != strikes || e.Turned != (strikes > j.strikes) {
		return false
	}
	newer := j.round > h.Round && m.me.ready && m.me.round == j.round && m.me.commit == j.commit
	return !newer || m.diverged()
}

// finishDraft makes the Reset hold once everybody signed, and gives it up when somebody does not.
func (m *Machine) finishDraft() {
	c := m.court
	for _, k := range c.entry.Keepers {
		signed := k.ID == m.self.ID || slices.ContainsFunc(c.sigs, func(s *record.Signed) bool { return s.Signer == k.ID })
		if !signed {
			if m.now > c.drafted+slot {
				apart := time.Duration(m.self.Boot % uint64(slot)) // so that two writers do not meet again
				c.draft, c.answers, c.since = nil, nil, m.now+apart
			}
			return
		}
	}
	rec, _, _, err := openReset(m.self.Signer, c.draft)
	if err != nil {
		return
	}
	h := rec.Header
	h.Context, h.Reset = contextReset, c.cid
	wrapped, _, err := m.self.Sign(h, ResetHeld{Reset: c.draft, Others: c.sigs})
	if err != nil {
		return
	}
	e, err := OpenEntry(m.self.Signer, wrapped)
	if err != nil {
		m.note("the Reset cannot be read: %v", err)
		c.draft = nil
		return
	}
	told := m.jury()
	m.adoptSpine([]*Entry{e})
	m.tellSpine(told)
}
