package collective

import (
	"math"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Any order of arrival, with duplicates, gives every member the bits of the written order.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		s := newTestSwarm(t, seed, 1+int(seed%6), 1+int(seed%9))
		for range 3 {
			s.round++
			s.attempt = 0
			s.newPlan([]int{1, 2, 3, 4, 5, 6, 7}, nil)
			for s.step() {
			}
			s.check()
			s.commit()
		}
	}
}

func (s *testSwarm) commit() {
	for _, n := range s.nodes {
		if n.alive {
			n.m.Commit(s.plan.Key)
		}
	}
}

// A member dies between any two events, before or after the cut; the living compute what is lost in a further attempt
// and agree on the same bits. When the dead left complete pieces behind, they still count.
func TestDeathBetweenAnyTwoEvents(t *testing.T) {
	const nodes, chunks = 4, 5
	kept := 0
	for victim := range nodes {
		for at := 1; ; at += 1 + victim { // every event for one victim, samples for the others
			s := newTestSwarm(t, uint64(at), nodes, chunks)
			s.round = 1
			s.newPlan([]int{1, 2, 3, 4, 5, 6}, nil)
			alive := true
			for i := 0; i < at && alive; i++ {
				alive = s.step()
			}
			if !alive {
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

// Members die and come back with nothing, several times, at any moment of several rounds.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(400) {
		s := newTestSwarm(t, seed, 3+int(seed%4), 1+int(seed%7))
		for range 3 {
			s.round++
			s.attempt, s.inherit = 0, nil
			s.newPlan([]int{1, 2, 3, 4, 5, 6, 7, 8}, nil)
			for range s.rng.IntN(4) {
				for range s.rng.IntN(150) {
					s.step()
				}
				s.fault()
				s.goOn()
			}
			for s.step() {
			}
			s.check()
			s.commit()
		}
	}
}

// fault kills a node, or restarts a living or dead one.
func (s *testSwarm) fault() {
	living := 0
	for _, n := range s.nodes {
		if n.alive {
			living++
		}
	}
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if n.alive && living > 2 && s.rng.IntN(2) == 0 {
		n.alive = false
		return
	}
	n.self.Boot += 1000
	n.m, n.alive, n.todo, n.done = New(n.self), true, nil, map[Key]*Done{}
}

// goOn makes attempt + 1 after a death: every chunk goes to its next living successor. A cut stays while its pieces
// exist; else lost positions are computed again.
func (s *testSwarm) goOn() {
	cut := s.cut
	var keep []PieceID
	lost := []int{}
	for _, id := range s.plan.Pieces {
		if s.survives(id) {
			keep = append(keep, id)
		} else {
			lost = append(lost, s.posns[id]...)
		}
	}
	s.inherit = s.heirs()
	if s.stages > 0 && len(lost) > 0 { // all or nothing
		lost, keep = s.batch, nil
	}
	s.newPlan(lost, keep)
	if cut != nil && len(lost) == 0 {
		s.kept++
		s.announceCut(cut)
	}
}

// heirs are the members that own after the deaths so far, per chunk.
func (s *testSwarm) heirs() [][]record.PeerID {
	var hs [][]record.PeerID
	for _, os := range s.plan.Owners {
		var ids []record.PeerID
		for _, o := range os {
			if id := s.plan.Members[o].ID; s.node(id).alive {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			for _, n := range s.nodes {
				if n.alive {
					ids = append(ids, n.self.ID)
				}
			}
		}
		hs = append(hs, ids)
	}
	return hs
}

// survives: the maker lives, or the heirs hold all of its slices. A dead owner's own slices went to its first successor.
func (s *testSwarm) survives(id PieceID) bool {
	if n := s.node(id.Member); n.alive && n.self.Boot == id.Boot {
		return true
	}
	for c, ids := range s.heirs() {
		if !s.adds(id, c) {
			continue
		}
		m := s.node(ids[0]).m
		p := m.pieces[id]
		if p == nil {
			return false
		}
		if _, here := m.slice(p, c); !here {
			return false
		}
	}
	return true
}

// A restarted member has another boot id: what was sent to its earlier run is sent again.
func TestRestartedOwnerGetsEverythingAgain(t *testing.T) {
	for seed := range uint64(100) {
		s := newTestSwarm(t, seed, 3, 4)
		s.round = 1
		s.newPlan([]int{1, 2, 3, 4}, nil)
		for range 5 + seed%60 {
			s.step()
		}
		n := s.nodes[1]
		lost := PieceID{Round: 1, Attempt: 1, Member: n.self.ID, Boot: n.self.Boot}
		n.self.Boot++
		n.m, n.todo = New(n.self), nil
		s.newPlan(s.posns[lost], []PieceID{s.plan.Pieces[0], s.plan.Pieces[2]})
		for s.step() {
		}
		s.check()
	}
}

// The cut may name fewer pieces than the plan lists; owners then answer with a sum over exactly those.
func TestCutOfFewerPieces(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		s := newTestSwarm(t, 3, 3, 4)
		if lazy {
			for _, n := range s.nodes {
				n.m.DeferPartial()
			}
		}
		s.round = 1
		s.newPlan([]int{1, 2, 3, 4, 5}, nil)
		s.announceCut(s.marks(s.plan.Pieces[:2]))
		for s.step() {
		}
		s.check()
	}
}

func TestDeferPartial(t *testing.T) {
	s := newTestSwarm(t, 5, 2, 4)
	m := s.nodes[0].m
	m.DeferPartial()
	s.round = 1
	s.newPlan([]int{1, 2, 3}, nil)
	m.Plan(s.plan)
	id := s.plan.Pieces[0]
	for _, e := range m.Local(s.piece(id)) {
		if e.Have != nil {
			t.Fatal("a partial Have was not deferred")
		}
	}
	out := m.Report()
	if len(out) != 1 || out[0].Have == nil || len(out[0].Have.Pieces) != 1 || out[0].Have.SumSq == 0 {
		t.Fatalf("Report gave %+v", out)
	}
	if out := m.Report(); len(out) != 0 {
		t.Fatalf("second Report gave %+v", out)
	}
}

// Nobody can step by a sum that is not finite or weighs nothing: the result is zero everywhere and nothing is sent.
func TestSkippedStep(t *testing.T) {
	for i, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), 0, float32(math.NaN()), 0} {
		s := newTestSwarm(t, 1, 2, 3)
		s.zero = i > 2 // owners are told, and have nothing to step by
		s.round = 1
		s.newPlan([]int{1, 2}, nil)
		for _, n := range s.nodes {
			for _, e := range n.m.Plan(s.plan) {
				s.perform(n, []Effect{e})
			}
		}
		for i, n := range s.nodes {
			k, v := s.piece(s.plan.Pieces[i])
			if bad != 0 {
				v[0] = bad
			} else {
				k.Weight = 0
			}
			s.perform(n, n.m.Local(k, v))
		}
		for s.cut == nil && s.stepFrames() {
		}
		tot := Totals{Weight: 2}
		for _, id := range s.owners() {
			tot.NonFinite = tot.NonFinite || s.haves[id].NonFinite
		}
		if bad != 0 && !tot.NonFinite || bad == 0 && tot.NonFinite {
			t.Fatalf("%v: non-finite is %v", bad, tot.NonFinite)
		}
		if bad == 0 {
			tot.Weight = 0
		}
		for _, n := range s.nodes {
			s.perform(n, n.m.Cut(s.plan.Key, s.haves[s.owners()[0]].Pieces))
			for _, e := range n.m.Release(s.plan.Key, tot) {
				if e.Send != nil {
					t.Fatal("a skipped result travels")
				}
				s.perform(n, []Effect{e})
			}
			d := n.done[s.plan.Key]
			if d == nil || slices.ContainsFunc(d.V, func(x float32) bool { return x != 0 }) {
				t.Fatalf("%v: result %v", bad, d)
			}
		}
	}
}

func (s *testSwarm) stepFrames() bool {
	if len(s.flying) == 0 {
		return false
	}
	s.fly(0)
	return true
}

// A member that was late at the commit still completes its result.
func TestResultAfterCommit(t *testing.T) {
	s := newTestSwarm(t, 5, 3, 6)
	s.round = 1
	s.newPlan([]int{1, 2, 3}, nil)
	late := s.nodes[2]
	var held []flight
	for s.step() {
		for i := 0; i < len(s.flying); i++ {
			if f := s.flying[i]; f.frame != nil && f.frame.Kind == FrameResult && f.to == late.self.ID {
				held = append(held, f)
				s.flying = slices.Delete(s.flying, i, i+1)
				i--
			}
		}
	}
	first, want := s.plan, s.want()
	s.commit()
	s.round, s.attempt = 2, 0
	s.newPlan([]int{1, 2, 3}, nil)
	s.perform(late, late.m.Plan(s.plan))
	for _, f := range held {
		s.perform(late, late.m.Frame(f.from, f.frame))
	}
	d := late.done[first.Key]
	if d == nil || !slices.Equal(d.V, want) {
		t.Fatalf("late member's result: %v", d)
	}
}

func TestRefusals(t *testing.T) {
	s := newTestSwarm(t, 9, 3, 3)
	s.round = 2
	s.newPlan([]int{1, 2, 3}, nil)
	p := s.plan
	m := s.nodes[p.Owners[0][0]].m
	from := p.Members[p.Owners[0][1]]
	id := PieceID{Round: 2, Attempt: 1, Member: from.ID, Boot: from.Boot}
	mark, v := s.piece(id)
	good := Frame{Kind: FrameContribution, Key: p.Key, Mark: mark, Data: v[:p.Chunks[0].Hi]}
	m.Plan(p)
	for _, tc := range []struct {
		name string
		edit func(*Frame)
		want error
	}{
		{"short", func(f *Frame) { f.Data = f.Data[1:] }, RefusedMalformed},
		{"no data", func(f *Frame) { f.Data = nil }, RefusedMalformed},
		{"chunk out of range", func(f *Frame) { f.Chunk = len(p.Chunks) }, RefusedMalformed},
		{"negative chunk", func(f *Frame) { f.Chunk = -1 }, RefusedMalformed},
		{"loss not a number", func(f *Frame) { f.Mark.Loss = math.NaN() }, RefusedMalformed},
		{"negative weight", func(f *Frame) { f.Mark.Weight = -1 }, RefusedMalformed},
		{"somebody else's piece", func(f *Frame) { f.Mark.Member = "peer9" }, RefusedMalformed},
		{"kind", func(f *Frame) { f.Kind = 7 }, RefusedMalformed},
		{"other job", func(f *Frame) { f.Key.Job = testCID("other") }, RefusedMalformed},
		{"result from no owner", func(f *Frame) { f.Kind = FrameResult }, RefusedMalformed},
		{"unlisted attempt", func(f *Frame) { f.Mark.Attempt = 9 }, RefusedUnlisted},
		{"earlier round", func(f *Frame) { f.Key.Round = 1 }, RefusedStale},
		{"good", func(f *Frame) {}, nil},
		{"twice", func(f *Frame) {}, nil},
		{"another mark", func(f *Frame) { f.Mark.Weight++ }, RefusedMalformed},
	} {
		f := good
		tc.edit(&f)
		out := m.Frame(from.ID, &f)
		if len(out) == 0 || out[0].Receipt == nil || out[0].Receipt.Err != tc.want {
			t.Errorf("%s: got %+v, want %v", tc.name, out, tc.want)
		}
	}
}

// Frames of plans nobody has seen yet wait, up to the mailbox's bounds.
func TestMailboxIsBounded(t *testing.T) {
	m := New(Member{ID: "me", Boot: 1})
	refused := 0
	for i := range 10 * boxFrames {
		f := &Frame{Kind: FrameContribution, Key: Key{Round: uint64(i)}, Data: make([]float32, 16)}
		for _, e := range m.Frame("flooder", f) {
			if e.Receipt.Err != RefusedUnknown {
				t.Fatal(e.Receipt.Err)
			}
			refused++
		}
	}
	if len(m.box.frames) != boxPeerFrames || refused != 10*boxFrames-boxPeerFrames {
		t.Fatalf("%d frames wait, %d were refused", len(m.box.frames), refused)
	}
	big := &Frame{Kind: FrameContribution, Data: make([]float32, MaxChunkLen)}
	for range 20 {
		m.Frame("other", big)
	}
	if m.box.bytes > boxBytes {
		t.Fatalf("mailbox holds %d bytes", m.box.bytes)
	}
	if out := m.Reset(); len(out) != boxPeerFrames+8 || out[0].Receipt == nil {
		t.Fatalf("Reset gave %d receipts", len(out))
	}
}

// A member whose state is replaced takes its pieces back; what it holds for others stays.
// A piece that is ready when its round is committed without it changes nothing.
func TestLocalAfterCommit(t *testing.T) {
	s := newTestSwarm(t, 4, 3, 2)
	s.round = 1
	s.newPlan([]int{1, 2, 3}, nil)
	m := s.nodes[s.plan.Owners[0][0]].m
	m.Plan(s.plan)
	var mine PieceID
	for _, id := range s.plan.Pieces {
		if id.Member == m.self.ID {
			mine = id
			continue
		}
		k, v := s.piece(id)
		for _, c := range m.plan.owned {
			ch := s.chunks[c]
			m.Frame(id.Member, &Frame{Kind: FrameContribution, Key: s.plan.Key, Mark: k, Chunk: c, Codec: s.codec, Data: v[ch.Lo:ch.Hi]})
		}
	}
	m.Commit(s.plan.Key)
	if k, v := s.piece(mine); len(m.Local(k, v)) != 0 || len(m.pieces) != 0 {
		t.Fatal("a piece was taken after the commit")
	}
}

func TestWithdraw(t *testing.T) {
	s := newTestSwarm(t, 4, 2, 2)
	s.round = 1
	s.newPlan([]int{1, 2}, nil)
	m := s.nodes[s.plan.Owners[0][0]].m
	m.Plan(s.plan)
	var mine, theirs PieceID
	for _, id := range s.plan.Pieces {
		if k, v := s.piece(id); id.Member == m.self.ID {
			mine = id
			m.Local(k, v)
		} else {
			theirs = id
			for _, c := range m.plan.owned {
				ch := s.chunks[c]
				m.Frame(id.Member, &Frame{Kind: FrameContribution, Key: s.plan.Key, Mark: k, Chunk: c, Codec: s.codec, Data: v[ch.Lo:ch.Hi]})
			}
		}
	}
	if len(m.have) != 2 {
		t.Fatalf("holds %v", m.have)
	}
	out := m.Withdraw()
	if len(out) != 1 || out[0].Have == nil || len(out[0].Have.Pieces) != 1 || out[0].Have.Pieces[0].PieceID != theirs {
		t.Fatalf("Withdraw gave %+v", out)
	}
	if k, v := s.piece(mine); len(m.Local(k, v)) != 0 {
		t.Fatal("a piece of the same name was taken again")
	}
}

// A failed Send is sent again by Retry, once.
func TestRetry(t *testing.T) {
	s := newTestSwarm(t, 2, 2, 4)
	s.round = 1
	s.newPlan([]int{1, 2}, nil)
	m := s.nodes[0].m
	m.Plan(s.plan)
	sends := m.Local(s.piece(s.plan.Pieces[0]))
	if out := m.Retry("peer1"); len(out) != 0 {
		t.Fatalf("Retry sends what is underway: %+v", out)
	}
	n := 0
	for _, e := range sends {
		if e.Send != nil {
			m.Sent(e.Send.To, e.Send.Frame, RefusedUnknown)
			n++
		}
	}
	out := m.Retry("peer1")
	if len(out) != n || n == 0 {
		t.Fatalf("Retry sent %d of %d", len(out), n)
	}
	if m.Delivered(s.plan.Pieces[0]) {
		t.Fatal("delivered before any receipt")
	}
	for _, e := range out {
		m.Sent(e.Send.To, e.Send.Frame, nil)
	}
	if !m.Delivered(s.plan.Pieces[0]) || len(m.Retry("peer1")) != 0 {
		t.Fatal("not delivered after all receipts")
	}
}

func TestSumSqOrder(t *testing.T) {
	x := make([]float32, 16*5+3)
	for i := range x {
		x[i] = float32(math.Sin(float64(i))) * float32(math.Pow(10, float64(i%7)))
	}
	var l [16]float64
	for i, e := range x {
		l[i%16] += float64(e) * float64(e)
	}
	a := ((l[0] + l[8]) + (l[4] + l[12])) + ((l[2] + l[10]) + (l[6] + l[14]))
	b := ((l[1] + l[9]) + (l[5] + l[13])) + ((l[3] + l[11]) + (l[7] + l[15]))
	if got := SumSq(x); got != a+b {
		t.Fatalf("SumSq = %g, want %g", got, a+b)
	}
}

func TestPlanValidate(t *testing.T) {
	good := func() *Plan {
		return &Plan{Members: []Member{{ID: "a"}, {ID: "b", Syncing: true}}, Chunks: []Chunk{{0, 4, 0}, {4, 6, 1}},
			Owners: [][]int{{0}, {0}}, Pieces: []PieceID{{Member: "a"}}}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Plan){
		"no member":       func(p *Plan) { p.Members = nil },
		"member twice":    func(p *Plan) { p.Members[1].ID = "a" },
		"hole":            func(p *Plan) { p.Chunks[1].Lo = 5 },
		"empty chunk":     func(p *Plan) { p.Chunks[1].Hi = 4 },
		"large chunk":     func(p *Plan) { p.Chunks[1].Hi = 5 + MaxChunkLen },
		"unit goes back":  func(p *Plan) { p.Chunks[1].Unit = -1 },
		"owners missing":  func(p *Plan) { p.Owners = p.Owners[:1] },
		"no owner":        func(p *Plan) { p.Owners[1] = nil },
		"owner twice":     func(p *Plan) { p.Owners[1] = []int{0, 0} },
		"owner unknown":   func(p *Plan) { p.Owners[1] = []int{2} },
		"owner syncing":   func(p *Plan) { p.Owners[1] = []int{1} },
		"piece twice":     func(p *Plan) { p.Pieces = append(p.Pieces, p.Pieces[0]) },
		"piece of future": func(p *Plan) { p.Pieces[0].Attempt = 1 },
		"other round":     func(p *Plan) { p.Pieces[0].Round = 1 },
	} {
		p := good()
		edit(p)
		if p.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
		if m := New(Member{ID: "a"}); m.Plan(p) != nil || m.plan != nil {
			t.Errorf("%s: the machine took it", name)
		}
	}
}
