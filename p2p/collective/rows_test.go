package collective

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

// pattern is who sends a chunk to whom on its way to the sum and back. With rows of all members it is the flat one that Machine
// has; with smaller rows each row adds up for itself, and the owners of a chunk in all rows then among each other.
type pattern struct {
	net        *simnet.Net
	n, row     int
	chunks     int
	size       int   // bytes of a chunk
	got        []int // by chunk and row: slices at the row's owner, its own included
	sums       []int // by chunk: sums of rows at the owner of all
	summed     int   // chunks
	have       []int // by member: chunks of the result
	done       int   // members
	sent       []int // bytes by member
	partners   []map[int]bool
	aggregated time.Duration
	waiting    [][]outgoing // by member
	rate       float64      // bytes per second of each line, up and down
}

type outgoing struct {
	to  int
	msg chunkMessage
}

// chunkMessage is a chunk at one of four stages: a slice, a row's sum, a result for a row's owner, a result for a member.
type chunkMessage struct{ stage, chunk, row int }

func (p *pattern) rows() int          { return p.n / p.row }
func (p *pattern) owner(c, g int) int { return g*p.row + c%p.row }
func (p *pattern) top(c int) int      { return p.owner(c, c/p.row%p.rows()) }
func (p *pattern) id(i int) record.PeerID {
	return record.PeerID(fmt.Sprintf("m%03d", i))
}

func (p *pattern) send(from, to int, m chunkMessage) {
	if from == to {
		p.take(to, m)
		return
	}
	p.sent[from] += p.size
	p.partners[from][to], p.partners[to][from] = true, true
	p.waiting[from] = append(p.waiting[from], outgoing{to, m})
	if len(p.waiting[from]) == 1 {
		p.pump(from)
	}
}

// pump sends what waits at a member one by one, as its line takes it.
func (p *pattern) pump(from int) {
	o := p.waiting[from][0]
	p.net.Send(p.id(from), p.id(o.to), o.msg, p.size)
	p.net.After(time.Duration(float64(p.size)/p.rate*float64(time.Second)), func() {
		if p.waiting[from] = p.waiting[from][1:]; len(p.waiting[from]) > 0 {
			p.pump(from)
		}
	})
}

func (p *pattern) take(me int, m chunkMessage) {
	c := m.chunk
	switch m.stage {
	case 0:
		if p.got[c*p.rows()+m.row]++; p.got[c*p.rows()+m.row] == p.row {
			p.send(me, p.top(c), chunkMessage{1, c, m.row})
		}
	case 1:
		if p.sums[c]++; p.sums[c] < p.rows() {
			return
		}
		if p.summed++; p.summed == p.chunks { // the leader hears of it, and all hear of the cut
			p.aggregated = p.net.Now()
			p.net.After(2*latency, p.handRound)
		}
	case 2:
		for i := range p.row {
			p.send(me, m.row*p.row+(me+i)%p.row, chunkMessage{3, c, m.row})
		}
	case 3:
		if p.have[me]++; p.have[me] == p.chunks {
			p.done++
		}
	}
}

func (p *pattern) handRound() {
	for c := range p.chunks {
		for g := range p.rows() {
			p.send(p.top(c), p.owner(c, g), chunkMessage{2, c, g})
		}
	}
}

const latency = 20 * time.Millisecond // one way

// run returns how long a round takes.
func (p *pattern) run() time.Duration {
	p.net, p.waiting = simnet.New(1, simnet.Config{Latency: latency, BytesPerSec: p.rate}), make([][]outgoing, p.n)
	p.got, p.sums = make([]int, p.chunks*p.rows()), make([]int, p.chunks)
	p.have, p.sent, p.partners = make([]int, p.n), make([]int, p.n), make([]map[int]bool, p.n)
	for i := range p.n {
		p.partners[i] = map[int]bool{}
		p.net.Node(p.id(i), simnet.Handler{Receive: func(_ record.PeerID, msg any) { p.take(i, msg.(chunkMessage)) }})
	}
	for k := range p.chunks {
		for i := range p.n {
			c := (i + k) % p.chunks // each begins with another, so that no owner gets all at once
			p.send(i, p.owner(c, i/p.row), chunkMessage{0, c, i / p.row})
		}
	}
	for p.done < p.n && p.net.Step() {
	}
	return p.net.Now()
}

// What two levels would bring in large groups: see docs/decisions/flat-groups.md.
func TestTwoLevels(t *testing.T) {
	const chunks, size = 192, 512 << 10
	for _, n := range []int{32, 64} {
		var flat time.Duration
		for _, row := range []int{n, 16, 8} {
			p := &pattern{n: n, row: row, chunks: chunks, size: size, rate: 100e6 / 8}
			took := p.run()
			if p.done != n {
				t.Fatalf("%d of %d members have the result", p.done, n)
			}
			if row == n {
				flat = took
			}
			most, partners := 0, 0
			for i := range n {
				most, partners = max(most, p.sent[i]), max(partners, len(p.partners[i]))
			}
			t.Logf("%d members in rows of %d: %v (%.2f of flat), sums after %v, %.2f times the vector sent at most, %d partners", n, row, took.Round(time.Millisecond),
				took.Seconds()/flat.Seconds(), p.aggregated.Round(time.Millisecond), float64(most)/(chunks*size), partners)
			if row != n && took < flat*95/100 {
				t.Errorf("two levels would pay at %d members", n)
			}
		}
	}
}
