package coord

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// draft is what a new plan is made from.
type draft struct {
	round   uint64
	attempt uint32
	rows    []Row
	kept    []Piece       // of earlier attempts, that may still count
	again   []Piece       // new ones that are handed out already
	missing []shard.Range // positions to hand out
	cursor  cursor        // diloco: what is free
	workers []int         // rows that take them
	absent  []Absence
	base    []record.PeerID // see PlanEntry.Base
	shares  []byte          // see PlanEntry.Shares; made here where base is empty
	slower  int             // how often the deadline is doubled

	cuts  []int // of a pipeline, with the two below
	begun *Begun
	delay time.Duration
}

// plan finishes a draft.
func (m *Machine) plan(d draft) *PlanEntry {
	fresh := len(d.base) == 0
	if fresh {
		d.base = m.bestOwners(d.rows)
	}
	e := &PlanEntry{Members: d.rows, Codec: m.g.Codec.String(), Absent: clip(m.withParted(d.absent, d)), Base: d.base, Shares: d.shares}
	if fresh {
		e.Shares = m.shares(e.base())
	}
	e.Pieces = slices.Concat(d.kept, d.again)
	if m.g.Pipeline != nil {
		e.Cuts, e.Begun, e.Delay, e.Pieces = d.cuts, d.begun, d.delay, d.flowPieces()
	} else {
		m.handOutWork(e, d)
	}
	m.sortPieces(e)
	e.Collect, e.Gather = m.deadlines(e, d)
	return e
}

// handOutWork adds a piece for each worker with positions.
func (m *Machine) handOutWork(e *PlanEntry, d draft) {
	for k, rs := range m.assign(d.round, d.missing, d.rows, d.workers) {
		r := d.rows[d.workers[k]]
		if len(rs) > 0 {
			e.Pieces = append(e.Pieces, Piece{Attempt: d.attempt, ID: r.ID, Boot: r.Boot, Ranges: rs})
		}
	}
}

// sortPieces puts pieces in the order of summation: members in plan order (those that are not in it any more after
// them, by id), then attempts.
func (m *Machine) sortPieces(e *PlanEntry) {
	place := make(map[record.PeerID]int, len(e.Members))
	for i, r := range e.Members {
		place[r.ID] = i
	}
	rank := func(p Piece) int {
		if i, ok := place[p.ID]; ok {
			return i
		}
		return len(e.Members)
	}
	slices.SortStableFunc(e.Pieces, func(a, b Piece) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Boot, b.Boot),
			cmp.Compare(a.Attempt, b.Attempt))
	})
}

// probeEvery is how often, in rounds, a worker whose share is nothing is given one position all the same: a rate that was
// measured in a bad moment would otherwise stand forever.
const probeEvery = 32

// assign hands positions out in proportion to the workers' throughput, in runs, in the order of workers.
func (m *Machine) assign(round uint64, missing []shard.Range, rows []Row, workers []int) [][]shard.Range {
	n := uint64(0)
	for _, r := range missing {
		n += r.Len()
	}
	whole := uint64(1) // what is not divided
	if m.g.diloco() {
		whole = m.g.Batch
	}
	quota := shares((n+whole-1)/whole, m.rates(rows, workers))
	probe(quota, round)
	out := make([][]shard.Range, len(workers))
	rest := slices.Clone(missing)
	for i, q := range quota {
		out[i], rest = takeRanges(rest, q*whole)
	}
	return out
}

// probe moves one position from the largest share to one that is nothing, when it is that worker's turn.
func probe(quota []uint64, round uint64) {
	for i := range quota {
		if quota[i] > 0 || (round+uint64(i))%probeEvery != 0 {
			continue
		}
		most := 0
		for k := range quota {
			if quota[k] > quota[most] {
				most = k
			}
		}
		if quota[most] > 1 {
			quota[most]--
			quota[i]++
		}
	}
}

// rates is the throughput of workers, halved for each round in a row in which they were late. Who has not measured its
// own yet counts like the mean of the others.
func (m *Machine) rates(rows []Row, workers []int) []float64 {
	out := make([]float64, len(workers))
	sum, known := 0.0, 0
	for i, w := range workers {
		if p := m.peers.find(rows[w].ID); p != nil && p.cap.RowsPerSec > 0 {
			out[i] = min(max(p.cap.RowsPerSec, 1e-6), 1e9)
			sum, known = sum+out[i], known+1
		}
	}
	for i, w := range workers {
		switch {
		case out[i] == 0 && known == 0:
			out[i] = 1
		case out[i] == 0:
			out[i] = sum / float64(known)
		}
		out[i] = math.Ldexp(out[i], -m.lead.late[rows[w].ID])
	}
	return out
}

// shares divides n by the method of largest remainders.
func shares(n uint64, rates []float64) []uint64 {
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	out := make([]uint64, len(rates))
	order := make([]int, len(rates))
	rest := make([]float64, len(rates))
	left := n
	for i, r := range rates {
		exact := float64(n) * r / sum
		out[i] = min(uint64(exact), left)
		left -= out[i]
		rest[i], order[i] = exact-float64(out[i]), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for i := 0; left > 0; i = (i + 1) % len(order) {
		out[order[i]]++
		left--
	}
	return out
}

// takeRanges cuts the first n positions off rs.
func takeRanges(rs []shard.Range, n uint64) (head, tail []shard.Range) {
	for len(rs) > 0 && n > 0 {
		k := min(n, rs[0].Len())
		head = append(head, shard.Range{Lo: rs[0].Lo, Hi: rs[0].Lo + k})
		n -= k
		if k < rs[0].Len() {
			return head, append([]shard.Range{{Lo: rs[0].Lo + k, Hi: rs[0].Hi}}, rs[1:]...)
		}
		rs = rs[1:]
	}
	return head, rs
}

// driveFirst makes the plan of a round that no commit carried: the first one, and the first one after a Reset.
func (m *Machine) driveFirst() {
	round := m.job.round + 1
	if m.job.cursor.done(&m.g) {
		return
	}
	ready := m.readyAt(m.job.round)
	if m.job.round == 0 && m.job.gen == 0 && len(ready) < m.g.MinPeers {
		m.waitFor(waiting(len(ready), m.g.MinPeers))
		return
	}
	if len(ready) == 0 || len(ready) < m.peers.near(m.now) && m.now < m.lead.since+firstWait {
		return
	}
	d := draft{round: round, attempt: m.job.firstAttempt(), rows: m.rowsOf(ready), cursor: m.job.cursor}
	if m.g.Pipeline != nil {
		if err := m.place(&d, rowsBut(d.rows, nil)); err != nil {
			m.waitFor(clipText("waiting: " + err.Error()))
			return
		}
	} else {
		m.wholeBatch(&d)
	}
	m.waitFor("")
	m.propose(contextPlan, round, d.attempt, m.plan(d))
}

// firstWait is how long the first plan waits for nodes that are there and not ready.
const firstWait = 2 * time.Second

func waiting(have, want int) string {
	return "waiting for peers: " + count(have) + " of " + count(want) + " are ready"
}

// wholeBatch hands the whole round out to the working rows.
func (m *Machine) wholeBatch(d *draft) {
	d.workers = working(d.rows)
	if m.g.diloco() {
		d.missing = m.own(d)
		return
	}
	d.missing = []shard.Range{m.batch(d.round)}
}

func working(rows []Row) (out []int) {
	for i, r := range rows {
		if !r.Syncing {
			out = append(out, i)
		}
	}
	return out
}

// readyAt lists the nodes whose state is that of a round's commit in this log.
func (m *Machine) readyAt(round uint64) (ids []record.PeerID) {
	c, ok := m.job.at(round)
	for _, p := range m.peers.alive(m.now) {
		if ok && p.ready && p.round == round && p.commit == c.cid && !p.leaving {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// rowsOf is the member table with ready members working and all other nodes that are there syncing. Members keep their
// places from plan to plan; the submitter and then the longest present come first among the others.
func (m *Machine) rowsOf(ready []record.PeerID) []Row {
	ps := m.peers.alive(m.now)
	places := map[Row]int{} // in the plan in force
	if m.job.plan != nil {
		for i, r := range m.job.plan.Members {
			places[Row{ID: r.ID, Boot: r.Boot}] = i
		}
	}
	place := func(p *peer) int {
		if i, ok := places[Row{ID: p.id, Boot: p.boot}]; ok {
			return i
		}
		return maxMembers
	}
	able := map[record.PeerID]bool{}
	for _, id := range ready {
		able[id] = true
	}
	slices.SortStableFunc(ps, func(a, b *peer) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), -compareBool(a.id == m.g.Submitter, b.id == m.g.Submitter),
			cmp.Compare(a.since, b.since), cmp.Compare(a.id, b.id))
	})
	slices.SortStableFunc(ps, func(a, b *peer) int { return -compareBool(able[a.id], able[b.id]) }) // for the limit
	if limit := m.memberLimit(); len(ps) > limit {
		ps = ps[:limit]
	}
	slices.SortStableFunc(ps, func(a, b *peer) int { return cmp.Compare(place(a), place(b)) })
	var rows []Row
	for _, p := range ps {
		if p.leaving {
			continue
		}
		rows = append(rows, Row{ID: p.id, Boot: p.boot, Syncing: !able[p.id]})
	}
	return m.apart(rows)
}

func (m *Machine) memberLimit() int {
	if m.g.MaxPeers > 0 && m.g.MaxPeers < maxMembers {
		return m.g.MaxPeers
	}
	return maxMembers
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func clip(as []Absence) []Absence { return as[:min(len(as), maxAbsent)] }

func byLo(a, b shard.Range) int { return cmp.Compare(a.Lo, b.Lo) }
