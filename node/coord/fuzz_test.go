package coord

import (
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// recorded runs a job with a kill in it and returns every log entry and control message of it, to begin fuzzing with.
func recorded(t testing.TB, flow bool) (entries, messages []*record.Signed) {
	s := newSwarm(t, 3, options{nodes: 4, steps: 6, batch: 5, min: 3, every: 2, flow: flow})
	s.tap = func(m *record.Signed) { messages = append(messages, m) }
	s.tapLog = func(e *record.Signed) { entries = append(entries, e) }
	s.nodes[0].uplink, s.nodes[1].uplink = 1e7, 1e6 // plans with shares
	s.startAll()
	s.until("round 1", time.Minute, func() bool { return s.round() == 1 })
	s.net.Cut(s.nodes[2].id, s.nodes[3].id) // and with members that stand aside
	s.until("round 3", time.Minute, func() bool { return s.round() == 3 })
	for _, n := range s.nodes[:3] {
		s.net.Kill(n.id)
		if flow { // three have to stay, and to reach each other
			s.net.Heal()
			break
		}
	}
	s.until("the job ends", 3*time.Minute, s.allEnded)
	return entries, messages
}

func FuzzEntry(f *testing.F) {
	for _, flow := range []bool{false, true} {
		entries, _ := recorded(f, flow)
		for _, e := range entries {
			f.Add([]byte(e.Record))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > record.MaxRecord {
			return
		}
		_, _ = OpenEntry(plainKeys{}, &record.Signed{Record: data, Signer: "n0"})
	})
}

// FuzzMachine gives a member in the middle of a round foreign bytes as a control message, as a log entry that raft
// committed, and as a log message.
func FuzzMachine(f *testing.F) {
	for _, flow := range []bool{false, true} {
		entries, messages := recorded(f, flow)
		for i, e := range append(entries, messages...) {
			kind := uint8(i) &^ 8
			if flow {
				kind |= 8
			}
			f.Add(kind, []byte(e.Record))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		s := newSwarm(t, 3, options{nodes: 3, steps: 6, batch: 5, min: 3, every: 2, flow: kind&8 > 0})
		s.startAll()
		s.until("round 2", time.Minute, func() bool { return s.round() == 2 })
		m := s.leader().m
		if kind&1 > 0 {
			m = s.nodes[2].run.m
		}
		from := record.PeerID([]string{"n0", "n1", "n2", "n7"}[kind>>1&3])
		signed := &record.Signed{Record: data, Signer: from}
		m.Step(Message{From: from, Msg: signed})
		m.Step(LogMessage{From: from, Payload: data})
		if b, err := record.Encode(signed); err == nil {
			m.commitData(b)
			m.Step(Tick{m.now + TickEvery})
		}
		m.Step(Tick{m.now + time.Minute})
	})
}
