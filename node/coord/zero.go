package coord

import (
	"slices"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
)

// Where owners step (Genesis.OwnersStep) a round's result is the weights that owners made of the sums, and what a commit
// records is the hash of those. Optimizer state is the owners' own matter: whoever owns a chunk under a plan finds the
// state of the round before with the owner of then, or goes on from less, and all members take the weights that come out.
// So agreement does not depend on it. Adopted tells what could not be had exactly; it is told in the round's report.

// Adopted says that this member steps chunks in a round with state that is not exactly that of the round before.
type Adopted struct {
	Key collective.Key
	Why string
}

func (Adopted) event() {}

// phaseMoments is the phase of such reports.
const phaseMoments = "moments"

// adopted keeps what the next acknowledgement says.
func (m *Machine) adopted(e Adopted) {
	why := e.Why
	if len(why) > maxText {
		why = why[:maxText]
	}
	m.me.adopted = Adopted{e.Key, why}
}

// notice is what an acknowledgement of the plan's result says besides.
func (m *Machine) notice(k collective.Key) string {
	if m.me.adopted.Key != k {
		return ""
	}
	return m.me.adopted.Why
}

// moments lists what owners of the round said of their state.
func (m *Machine) moments() (out []Absence) {
	p := m.job.plan
	for i, why := range m.lead.notices {
		if why != "" {
			out = append(out, Absence{Peer: p.Members[i].ID, Attempt: attemptOf(p.key.Attempt), Phase: phaseMoments, Why: why})
		}
	}
	return out
}

// weights is the number of chunks that hold weights; the rest are estimates of the curvature, one for each of them.
func (g *Genesis) weights() int {
	if g.Weights == 0 {
		return len(g.Chunks)
	}
	return g.Weights
}

// withTwins gives the estimates of a chunk's curvature to the owner of the chunk.
func withTwins(owners [][]int, chunks int) [][]int {
	for c := 0; len(owners) < chunks; c++ {
		owners = append(owners, slices.Clone(owners[c]))
	}
	return owners
}

// checkWeights judges what the terms say about chunks.
func (g *Genesis) checkWeights() bool {
	n := g.weights()
	return n > 0 && (n == len(g.Chunks) || g.OwnersStep && 2*n == len(g.Chunks))
}
