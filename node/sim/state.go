package sim

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// fetching is a Fetch under way: one donor is asked after the other.
type fetching struct {
	number int // of the newest Fetch
	donors []record.PeerID
	wanted coord.Fetch
}

type (
	ask struct {
		number   int
		round    uint64
		manifest cid.Cid
	}
	answer struct {
		number int
		st     *state
	}
)

func (n *node) fetch(e coord.Fetch) {
	f := &n.fetching
	f.number++
	f.donors, f.wanted = e.Donors, e
	n.ready = false
	number := f.number
	if st, ok := n.cps[e.Manifest]; ok && e.Manifest.Defined() || e.Round == 0 {
		if e.Round == 0 {
			p := n.check.known[cid.Undef]
			st.w, st.hash = p.w, p.hash
		}
		n.sim.After(time.Second, func() { n.take(answer{number, &st}) })
		return
	}
	n.nextDonor(number)
}

// patience is how long a donor may take before the next is asked: a vector and its moments over a slow line.
func (n *node) patience() time.Duration {
	return 5*time.Second + time.Duration(float64(3*n.cfg.Bytes)/mbit*float64(time.Second))/5
}

func (n *node) nextDonor(number int) {
	f := &n.fetching
	if number != f.number {
		return
	}
	if len(f.donors) == 0 {
		f.number++
		n.do(coord.Unfetched{Round: f.wanted.Round, Why: "no donor has it"})
		return
	}
	d := f.donors[0]
	f.donors = slices.Clone(f.donors[1:])
	n.send(d, ask{number, f.wanted.Round, f.wanted.Manifest}, 64, &n.res.Control)
	left := len(f.donors)
	n.sim.After(n.patience(), func() {
		if number == f.number && len(f.donors) == left {
			n.nextDonor(number)
		}
	})
}

func (n *node) answer(from record.PeerID, w ask) {
	out, size := answer{number: w.number}, 64
	if st, ok := n.cps[w.manifest]; ok && w.manifest.Defined() {
		out.st, size = &st, 3*n.cfg.Bytes
	} else if n.ready && n.st.round >= w.round {
		st := n.st
		out.st, size = &st, 3*n.cfg.Bytes
	}
	n.send(from, out, size, &n.res.State)
}

func (n *node) take(w answer) {
	if w.number != n.fetching.number {
		return
	}
	if w.st == nil {
		n.nextDonor(w.number)
		return
	}
	n.fetching.number++
	n.set(*w.st)
	n.do(coord.Restored{Round: w.st.round, Commit: w.st.commit, Hash: n.st.hash})
}
