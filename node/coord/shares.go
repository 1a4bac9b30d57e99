package coord

import (
	"fmt"
	"math"
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard/layout"
)

// An owner sends its chunks of the result to everybody, so members own in proportion to the rate at which they send. The
// leader writes the shares into the plan, and takes what the plan before says into account: chunks that change hands cost
// their optimizer state, so a share moves only when a rate is clearly of another class.

// wholeShare is the share of the best connected, as a power of two.
const wholeShare = 4 // layout.MaxShare is 2^4

// shareMove is how far from a share's middle, in doublings, a rate must be for the share to change; half a doubling is
// the border. A guess, as rates that members measure differ by a third between rounds.
const shareMove = 0.75

// shares gives each of those who may own its part, or nil when all get the same. Unknown rates count like the mean.
func (m *Machine) shares(base []record.PeerID) []byte {
	rates := make([]float64, len(base))
	sum, known, best := 0.0, 0, 0.0
	for i, id := range base {
		if p := m.peers.find(id); p != nil && p.cap.BytesPerSec > 0 {
			rates[i] = min(p.cap.BytesPerSec, 1e15)
			sum, known, best = sum+rates[i], known+1, max(best, rates[i])
		}
	}
	if known == 0 {
		return nil
	}
	before := m.sharesBefore()
	out := make([]byte, len(base))
	for i, id := range base {
		if rates[i] == 0 {
			rates[i] = sum / float64(known)
		}
		doublings := max(wholeShare+math.Log2(rates[i]/best), 0)
		if was, ok := before[id]; !ok || math.Abs(doublings-was) >= shareMove {
			out[i] = 1 << int(math.Round(doublings))
		} else {
			out[i] = 1 << int(was)
		}
	}
	if !slices.ContainsFunc(out, func(s byte) bool { return s != out[0] }) {
		return nil
	}
	return out
}

// sharesBefore is what the plan in force gives to whom, as powers of two.
func (m *Machine) sharesBefore() map[record.PeerID]float64 {
	out := map[record.PeerID]float64{}
	if m.job.plan == nil {
		return out
	}
	p := m.job.plan.PlanEntry
	for i, id := range p.base() {
		out[id] = wholeShare
		if len(p.Shares) > 0 {
			out[id] = math.Log2(float64(p.Shares[i])) // entries are checked when they come in
		}
	}
	return out
}

func (p *PlanEntry) checkShares() error {
	if len(p.Shares) == 0 {
		return nil
	}
	if n := len(p.base()); len(p.Shares) != n {
		return fmt.Errorf("%d shares for %d members", len(p.Shares), n)
	}
	for i, s := range p.Shares {
		if s == 0 || s > layout.MaxShare || s&(s-1) != 0 {
			return fmt.Errorf("share %d is %d", i, s)
		}
	}
	return nil
}
