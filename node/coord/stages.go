package coord

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// A plan of a pipeline ("flow" plan) seats its working members in stages, and lists one piece of each without positions:
// which micro-batches a member has is found out as the pipe runs (p2p/pipe). Once the leader knows it, it seals the round,
// and the cut says which positions each piece holds. In every stage the batch counts exactly once, or nothing does.
//
// An attempt that begins a pipe has no Begun. One that goes on names the attempt that began it and everybody who was in
// it then; who of these does not work any more is lost to the pipe for good. Pieces keep the name of the attempt that
// began. An attempt that comes after the seal lists the pieces that still count with their positions.

// Begun names the attempt whose pipe goes on.
type Begun struct {
	Attempt uint32  `cbor:"1,keyasint"`
	Plan    cid.Cid `cbor:"2,keyasint"`
	Seats   []Row   `cbor:"3,keyasint"` // who worked in it, in its order
}

const (
	maxStages = 256
	maxMicros = 1 << 10 // of a round: their positions are told one by one
)

func (p *PlanEntry) flows() bool { return len(p.Cuts) > 0 }

// sealed tells that the plan says which positions its pieces hold.
func (p *PlanEntry) sealed() bool {
	return p.flows() && len(p.Pieces) > 0 && len(p.Pieces[0].Ranges) > 0
}

// seats are the members that the pipe began with.
func (p *PlanEntry) seats() []Row {
	if p.Begun != nil {
		return p.Begun.Seats
	}
	return rowsAt(p.Members, working(p.Members))
}

func rowsAt(rows []Row, at []int) []Row {
	out := make([]Row, len(at))
	for k, i := range at {
		out[k] = rows[i]
	}
	return out
}

// lost are the members that are lost to the pipe.
func (p *PlanEntry) lost() (ids []record.PeerID) {
	for _, s := range p.seats() {
		if i := findRow(p.Members, s); i < 0 || p.Members[i].Stage == 0 {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// findRow is where the same run of a member stands; -1: nowhere.
func findRow(rows []Row, r Row) int {
	return slices.IndexFunc(rows, func(o Row) bool { return o.ID == r.ID && o.Boot == r.Boot })
}

// stageOf is the stage of a piece's maker.
func (p *PlanEntry) stageOf(pc Piece) int {
	if i := findRow(p.Members, Row{ID: pc.ID, Boot: pc.Boot}); i >= 0 {
		return p.Members[i].Stage
	}
	return 0
}

func (p *PlanEntry) checkFlow() error {
	if !p.flows() {
		if p.Begun != nil || slices.ContainsFunc(p.Members, func(r Row) bool { return r.Stage != 0 }) {
			return errors.New("stages without cuts")
		}
		return nil
	}
	if len(p.Cuts) > maxStages+1 || len(p.Cuts) < 2 || p.Cuts[0] != 0 || p.Delay < 0 || p.Delay > mostWait {
		return fmt.Errorf("%d cuts, delay %v", len(p.Cuts), p.Delay)
	}
	for i, c := range p.Cuts[1:] {
		if c <= p.Cuts[i] {
			return fmt.Errorf("cut %d at unit %d", i+1, c)
		}
	}
	if err := p.checkSeats(); err != nil {
		return err
	}
	return p.checkFlowPieces()
}

func (p *PlanEntry) checkSeats() error {
	seats := p.seats()
	if len(seats) > maxMembers {
		return fmt.Errorf("%d seats", len(seats))
	}
	ids, taken := make([]record.PeerID, len(seats)), make([]bool, len(p.Cuts))
	for i, s := range seats {
		if s.Stage < 1 || s.Stage >= len(p.Cuts) || s.Pace < 0 || s.Pace > mostWait {
			return fmt.Errorf("%s sits in stage %d, pace %v", s.ID, s.Stage, s.Pace)
		}
		ids[i], taken[s.Stage] = s.ID, true
	}
	if slices.Contains(taken[1:], false) {
		return errors.New("a stage that nobody holds")
	}
	for _, r := range p.Members {
		i := findRow(seats, r)
		switch {
		case r.Stage == 0 && !r.Syncing, r.Stage != 0 && (i < 0 || seats[i].Stage != r.Stage):
			return fmt.Errorf("%s works in stage %d", r.ID, r.Stage)
		case r.Stage != 0 && r.Syncing && !p.sealed():
			return fmt.Errorf("%s is syncing in stage %d", r.ID, r.Stage)
		}
	}
	return checkIDs(ids)
}

// checkFlowPieces wants one piece of each working member, without positions; after the seal those with positions.
func (p *PlanEntry) checkFlowPieces() error {
	makers := map[record.PeerID]bool{}
	for _, pc := range p.Pieces {
		if makers[pc.ID] || p.stageOf(pc) == 0 || pc.Again || (len(pc.Ranges) > 0) != p.sealed() {
			return fmt.Errorf("piece of %s", pc.ID)
		}
		if p.Begun != nil && pc.Attempt != p.Begun.Attempt {
			return fmt.Errorf("piece of attempt %d in the pipe of %d", pc.Attempt, p.Begun.Attempt)
		}
		makers[pc.ID] = true
	}
	if p.sealed() {
		if p.Begun == nil {
			return errors.New("sealed before it began")
		}
		return nil
	}
	taken := make([]bool, len(p.Cuts))
	for _, i := range working(p.Members) {
		taken[p.Members[i].Stage] = true
	}
	if len(makers) != len(working(p.Members)) || slices.Contains(taken[1:], false) {
		return fmt.Errorf("%d pieces of %d members, or a stage without one", len(makers), len(working(p.Members)))
	}
	return nil
}

// holdsFlow tells whether a flow plan is one of this job's, and of a round.
func (m *Machine) holdsFlow(b *PlanEntry, round uint64) bool {
	if b.Cuts[len(b.Cuts)-1] != m.g.Pipeline.Units {
		return false
	}
	if !b.sealed() {
		return true
	}
	rs := make([][]shard.Range, len(b.Pieces))
	for i, pc := range b.Pieces {
		rs[i] = pc.Ranges
	}
	return b.exactlyOnce(b.Pieces, rs, m.batch(round))
}

// exactlyOnce tells whether in every stage the positions of pieces cover all, each once.
func (p *PlanEntry) exactlyOnce(pieces []Piece, positions [][]shard.Range, all shard.Range) bool {
	stages := make([][]shard.Range, len(p.Cuts))
	for i, pc := range pieces {
		s := p.stageOf(pc)
		stages[s] = append(stages[s], positions[i]...)
	}
	for _, rs := range stages[1:] {
		if !exactly(rs, all) {
			return false
		}
	}
	return len(stages[0]) == 0
}

// goesOnWith tells whether a plan may follow the one in force: it begins a pipe, or goes on with the one that runs.
func (m *Machine) goesOnWith(b *PlanEntry, attempt uint32) bool {
	if !b.flows() {
		return true
	}
	if b.Begun == nil {
		return !slices.ContainsFunc(b.Pieces, func(pc Piece) bool { return pc.Attempt != attempt })
	}
	p := m.job.plan
	if p == nil || !p.flows() {
		return false
	}
	k := p.pipeKey()
	return k.Attempt == b.Begun.Attempt && k.Plan == b.Begun.Plan && slices.Equal(p.seats(), b.Begun.Seats) &&
		slices.Equal(p.Cuts, b.Cuts)
}

// pipeKey is the key of the attempt that began the pipe; frames travel under it.
func (p *planned) pipeKey() collective.Key {
	k := p.key
	if p.Begun != nil {
		k.Attempt, k.Plan = p.Begun.Attempt, p.Begun.Plan
	}
	return k
}

// pipePlan is the plan in force as the pipe needs it.
func (m *Machine) pipePlan(p *planned) pipe.Plan {
	out := pipe.Plan{Key: p.pipeKey(), Stages: make([][]pipe.Member, len(p.Cuts)-1), Delay: p.Delay, Elems: m.g.Pipeline.Elems}
	for _, s := range p.seats() {
		out.Stages[s.Stage-1] = append(out.Stages[s.Stage-1], pipe.Member{ID: s.ID, Pace: s.Pace})
	}
	out.Homes = pipe.Share(out.Stages[0], len(m.micros(p.key.Round)))
	return out
}

// micros are the micro-batches of a round.
func (m *Machine) micros(round uint64) (out [][]shard.Range) {
	all, n := m.batch(round), uint64(max(m.g.MicroBatch, 1))
	for lo := all.Lo; lo < all.Hi; lo += n {
		out = append(out, []shard.Range{{Lo: lo, Hi: min(lo+n, all.Hi)}})
	}
	return out
}

// concerns tells whether piece i has numbers in a chunk that row o owns, so that o's Haves list it. Outside of pipelines
// every piece concerns every owner.
func (p *planned) concerns(i, o int) bool {
	if !p.flows() {
		return true
	}
	if p.asked == nil {
		p.asked = make([]bool, len(p.Pieces)*len(p.Members))
		for i, pc := range p.Pieces {
			stage := p.stageOf(pc)
			for c, os := range p.parts.Owners {
				at := i*len(p.Members) + os[0]
				p.asked[at] = p.asked[at] || p.parts.Covers[c][stage]
			}
		}
	}
	return p.asked[i*len(p.Members)+o]
}

// inChunk tells whether a piece has numbers in a chunk.
func (p *planned) inChunk(pc Piece, chunk int) bool {
	return !p.flows() || p.parts.Covers[chunk][p.stageOf(pc)]
}

// concerning are the marks of a set that concern row o.
func (p *planned) concerning(set []CutMark, o int) []CutMark {
	if !p.flows() {
		return set
	}
	return slices.DeleteFunc(slices.Clone(set), func(k CutMark) bool { return !p.concerns(k.Piece, o) })
}

// check judges the terms of a pipeline.
func (l *Pipeline) check(g *Genesis) error {
	micros := (g.Batch + uint64(max(g.MicroBatch, 1)) - 1) / uint64(max(g.MicroBatch, 1))
	switch {
	case !g.OwnersStep || g.diloco():
		return errors.New("a pipeline needs owners that step, in every step")
	case l.Units < 1 || len(l.Of) != len(g.Chunks) || l.Arrange == nil || l.Cost != nil && len(l.Cost) != l.Units:
		return fmt.Errorf("a pipeline of %d units, %d chunks of %d, %d costs", l.Units, len(l.Of), len(g.Chunks), len(l.Cost))
	case micros > maxMicros:
		return fmt.Errorf("%d micro-batches in a step, at most %d: raise micro_batch_size", micros, maxMicros)
	}
	for c, units := range l.Of {
		for _, u := range units {
			if u < 0 || u >= l.Units {
				return fmt.Errorf("chunk %d lies in unit %d of %d", c, u, l.Units)
			}
		}
	}
	return nil
}

// cost of units [lo, hi), in mean units.
func (l *Pipeline) cost(lo, hi int) float64 {
	if l.Cost == nil {
		return float64(hi - lo)
	}
	part, all := 0.0, 0.0
	for u, c := range l.Cost {
		if all += c; lo <= u && u < hi {
			part += c
		}
	}
	return max(part/all*float64(l.Units), 1e-9)
}

// bits is a set of micro-batches, as members and the leader tell it.
type bits []byte

func newBits(n int) bits { return make(bits, (n+7)/8) }

func (b bits) has(i int) bool { return i>>3 < len(b) && b[i>>3]>>(i&7)&1 > 0 }

func (b bits) set(i int) { b[i>>3] |= 1 << (i & 7) }

// rangesOf are the positions of a set of micro-batches.
func rangesOf(b bits, micros [][]shard.Range) (out []shard.Range) {
	for i, rs := range micros {
		if b.has(i) {
			out = append(out, rs...)
		}
	}
	return merged(out)
}

// microsIn is the set of micro-batches that lie in positions.
func microsIn(rs []shard.Range, micros [][]shard.Range) bits {
	b := newBits(len(micros))
	for i, m := range micros {
		if slices.ContainsFunc(rs, func(r shard.Range) bool { return r.Lo <= m[0].Lo && m[len(m)-1].Hi <= r.Hi }) {
			b.set(i)
		}
	}
	return b
}

// times is d·f, at most mostWait.
func times(d time.Duration, f float64) time.Duration {
	return time.Duration(min(float64(d)*f, float64(mostWait)))
}

// stages are those of a flow plan, with who was there when the pipe began: who comes back finds its place.
func (p *PlanEntry) stages() []Stage {
	out := make([]Stage, len(p.Cuts)-1)
	for s := range out {
		out[s].Lo, out[s].Hi = p.Cuts[s], p.Cuts[s+1]
	}
	for _, r := range p.seats() {
		out[r.Stage-1].Members = append(out[r.Stage-1].Members, r.ID)
	}
	return out
}

// validFlowSet tells whether a cut of a flow plan counts the batch once in every stage.
func (m *Machine) validFlowSet(c *CutEntry) bool {
	p := m.job.plan
	if len(c.Ranges) != len(c.Set) {
		return false
	}
	pieces := make([]Piece, len(c.Set))
	for i, k := range c.Set {
		if k.Piece >= len(p.Pieces) {
			return false
		}
		pieces[i] = p.Pieces[k.Piece]
	}
	return p.exactlyOnce(pieces, c.Ranges, m.batch(m.job.round+1))
}

// flowCounted lists per member the positions of a cut, and in which stage.
func (p *planned) flowCounted(c *CutEntry) (out []Contribution) {
	for i, k := range c.Set {
		if pc := p.Pieces[k.Piece]; len(c.Ranges[i]) > 0 {
			out = append(out, Contribution{Peer: pc.ID, Ranges: c.Ranges[i], Stage: p.stageOf(pc)})
		}
	}
	return out
}
