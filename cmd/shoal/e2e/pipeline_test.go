package e2e

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// TestPipelineFaults trains in three stages of two nodes each and kills one of the nodes in the middle. What it had computed
// is computed by the other node of its stage; in each stage every position counts once. SHOAL_FAULTS kills as often as it says.
func TestPipelineFaults(t *testing.T) {
	times, seed := number(t, "SHOAL_FAULTS", 1), number(t, "SHOAL_SEED", usualSeed())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	s := newSoakOf(t, rng, 6, "parallel: {pipeline: 3}\nwire: {activations: fp32}\n")
	for range times {
		job := submit(t, s.nodes[0], s.spec)
		waitStep(t, s.nodes[0], job, 1+rng.Uint64N(soakSteps-8))
		<-time.After(time.Duration(rng.Int64N(int64(100 * time.Millisecond)))) // any moment of a round
		victim := s.nodes[1+rng.IntN(5)]
		victim.kill()
		checkCurve(t, export(t, s.nodes[0], job), s.want, curveAfterFaults)
		checkStages(t, job, 3, s.nodes[0])
		if os.Getenv("SHOAL_FAULTS") != "" {
			victim.args = s.bootstraps()
			victim.start()
		}
	}
}

// checkStages proves from the log that in each stage every position of the run counted exactly once, in its own step.
func checkStages(t *testing.T, job string, stages int, d *daemon) {
	t.Helper()
	rs, err := rounds(d, job)
	if err != nil {
		t.Fatal(err)
	}
	type at struct {
		stage    int
		position uint64
	}
	counted := map[at]int{}
	for _, r := range rs {
		for _, m := range r.Members {
			for _, p := range m.Positions {
				for s := p[0]; s < p[1]; s++ {
					counted[at{m.Stage, s}]++
					if s/4+1 != r.Round || m.Stage < 1 || m.Stage > stages {
						t.Errorf("position %d counted in round %d, stage %d", s, r.Round, m.Stage)
					}
				}
			}
		}
	}
	for stage := 1; stage <= stages; stage++ {
		for s := range uint64(soakSteps * 4) {
			if n := counted[at{stage, s}]; n != 1 {
				t.Errorf("position %d counted %d times in stage %d", s, n, stage)
			}
		}
	}
}
