package blocks

import (
	"math/bits"
	"time"
)

// plan decides which donor is asked for which block. Blocks are indexes; it is a plain state machine: the caller
// brings the time since the fetch began, performs the requests, and guards it.
//
// Invariants: a block is pending, or held by at least one donor, or done; a donor answers in the order asked (queue).
// A block is held by two donors only after a theft.
type plan struct {
	total   int
	done    int
	start   int // word of the first block given out; nodes that start apart can give to each other
	pending bitset
	isDone  bitset
	storing bitset // delivered, being stored
	holders map[int][]*donor
}

// donor is one stream to a peer.
type donor struct {
	has    bitset
	asked  int           // blocks below were asked about
	queue  []ask         // under way, in the order of the answers
	pace   time.Duration // smoothed time per block; 0 unknown
	active time.Duration // when the present head of queue became the head
	gone   bool
}

// ask is a get under way.
type ask struct {
	block  int
	seq    uint32
	stolen bool // a cancel was sent; an answer may come nevertheless
}

type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) get(i int) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) clear(i int)    { b[i/64] &^= 1 << (i % 64) }

func newPlan(total int, seed uint64) *plan {
	p := &plan{total: total, pending: newBitset(total), isDone: newBitset(total), storing: newBitset(total), holders: map[int][]*donor{}}
	if total > 0 {
		p.start = int(seed % uint64(len(p.pending)))
	}
	for i := range total {
		p.pending.set(i)
	}
	return p
}

func (p *plan) finished() bool { return p.done == p.total }

// plenty reports whether more blocks are missing than one stream's credit.
func (p *plan) plenty() bool { return p.total-p.done > window }

func (p *plan) join() *donor { return &donor{has: newBitset(p.total)} }

// leave gives back what the donor did not deliver.
func (p *plan) leave(d *donor) {
	d.gone = true
	for _, a := range d.queue {
		p.release(d, a.block)
	}
	d.queue = nil
}

// question returns up to n blocks to ask the donor about: missing ones it is not known to have.
func (p *plan) question(d *donor, n int) (blocks []int) {
	for ; d.asked < p.total && len(blocks) < n; d.asked++ {
		if !p.isDone.get(d.asked) && !d.has.get(d.asked) {
			blocks = append(blocks, d.asked)
		}
	}
	return blocks
}

// hungry reports whether fewer than n pending blocks are known to be at the donor.
func (p *plan) hungry(d *donor, n int) bool {
	for w := range p.pending {
		if n -= bits.OnesCount64(p.pending[w] & d.has[w]); n <= 0 {
			return false
		}
	}
	return true
}

// again makes the donor be asked anew about all that is missing: it may have got more meanwhile.
func (p *plan) again(d *donor) { d.asked = 0 }

// take chooses the next block to get from the donor: a pending one, else one that a slower donor has not begun.
// The caller sends a get with seq, and a cancel of the victim's request if there is a victim.
func (p *plan) take(d *donor, seq uint32, now time.Duration) (block int, victim *donor, old uint32, ok bool) {
	block, ok = p.firstPending(d)
	if !ok {
		if victim, old, block = p.theft(d, now); victim == nil {
			return 0, nil, 0, false
		}
	}
	if len(d.queue) == 0 {
		d.active = now
	}
	d.queue = append(d.queue, ask{block: block, seq: seq})
	p.pending.clear(block)
	p.holders[block] = append(p.holders[block], d)
	return block, victim, old, true
}

func (p *plan) firstPending(d *donor) (int, bool) {
	for k := range p.pending {
		w := (p.start + k) % len(p.pending)
		if m := p.pending[w] & d.has[w]; m != 0 {
			return w*64 + bits.TrailingZeros64(m), true
		}
	}
	return 0, false
}

// theft finds the block under way at another donor that d would have soonest before its holder.
func (p *plan) theft(d *donor, now time.Duration) (victim *donor, seq uint32, block int) {
	mine := d.pace * time.Duration(len(d.queue)+1)
	best := mine / 2 // taking over must pay by half
	for b, hs := range p.holders {
		if len(hs) != 1 || hs[0] == d || !d.has.get(b) || p.isDone.get(b) || p.storing.get(b) {
			continue
		}
		v := hs[0]
		place := v.place(b)
		if place < 0 || place == 0 && now-v.active < 4*max(mine, minPace) {
			continue // about to arrive
		}
		gain := v.wait(place, now) - mine
		if gain > best || gain == best && victim != nil && b < block {
			best, victim, block, seq = gain, v, b, v.queue[place].seq
		}
	}
	if victim != nil {
		victim.queue[victim.place(block)].stolen = true
	}
	return victim, seq, block
}

// minPace is the least time that a block is assumed to take when nothing is known.
const minPace = 100 * time.Millisecond

// place is where b stands in the queue, -1 if it was stolen already.
func (d *donor) place(b int) int {
	for i, a := range d.queue {
		if a.block == b && !a.stolen {
			return i
		}
	}
	return -1
}

// wait is how long the request at place will still take, as far as can be known.
func (d *donor) wait(place int, now time.Duration) time.Duration {
	return max(d.pace, now-d.active, minPace) * time.Duration(place+1)
}

// answered takes the donor's next answer off its queue and returns which block it is about; useful says that
// its bytes are still wanted. Unless the caller then calls stored or failed, the block stays held.
func (p *plan) answered(d *donor, seq uint32, delivered bool, now time.Duration) (block int, useful, ok bool) {
	if len(d.queue) == 0 || d.queue[0].seq != seq {
		return 0, false, false
	}
	a := d.queue[0]
	d.queue = d.queue[1:]
	if took := now - d.active; delivered {
		if d.pace == 0 {
			d.pace = took
		}
		d.pace += (took - d.pace) / 4
	}
	d.active = now
	if !delivered {
		if !a.stolen {
			d.has.clear(a.block)
		}
		p.release(d, a.block)
		return a.block, false, true
	}
	switch {
	case p.isDone.get(a.block):
		return a.block, false, true
	case p.storing.get(a.block): // a copy of it was faster; should that not match, somebody is asked again
		p.release(d, a.block)
		return a.block, false, true
	}
	p.storing.set(a.block)
	return a.block, true, true
}

// failed says that a useful answer of d could not be stored.
func (p *plan) failed(d *donor, block int) {
	p.storing.clear(block)
	p.release(d, block)
}

// release ends d's hold on a block; without another holder it is pending again.
func (p *plan) release(d *donor, block int) {
	hs := p.holders[block]
	for i := range hs {
		if hs[i] == d {
			hs = append(hs[:i:i], hs[i+1:]...)
			break
		}
	}
	if len(hs) > 0 {
		p.holders[block] = hs
		return
	}
	delete(p.holders, block)
	if !p.isDone.get(block) {
		p.pending.set(block)
	}
}

// finish marks a block as stored, and returns the requests for it that are to be cancelled.
func (p *plan) finish(block int) (cancel []theftOf) {
	for _, d := range p.holders[block] {
		if i := d.place(block); i > 0 {
			d.queue[i].stolen = true
			cancel = append(cancel, theftOf{d, d.queue[i].seq})
		}
	}
	delete(p.holders, block)
	p.pending.clear(block)
	p.storing.clear(block)
	if !p.isDone.get(block) {
		p.isDone.set(block)
		p.done++
	}
	return cancel
}

// theftOf names a request that is not wanted any more.
type theftOf struct {
	from *donor
	seq  uint32
}
