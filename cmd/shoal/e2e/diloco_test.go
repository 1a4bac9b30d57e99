package e2e

import (
	"testing"
	"time"
)

// TestDiLoCo trains on three nodes that agree after every fifth step alone. One is killed in a round, another joins late;
// what was lost is learned later, and each position counts once.
func TestDiLoCo(t *testing.T) {
	kitchen(t)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cpu", "--bootstrap", a.addr())
	c := newDaemon(t, "--device", "cpu:avx2", "--bootstrap", a.addr())
	if _, err := a.output(time.Minute, "train", "--detach", "-f", "diloco.yaml", "--set", "swarm.min_peers=3", "--set", "max_steps=240"); err != nil {
		t.Fatal(err)
	}
	job := lastJob(t, a)
	waitStep(t, a, job, 3)
	d := newDaemon(t, "--device", "cpu", "--bootstrap", a.addr())
	b.kill()
	out := export(t, a, job)
	checkAgreement(t, job, 240, a, c, d)

	rs, err := rounds(a, job)
	if err != nil {
		t.Fatal(err)
	}
	counted := map[uint64]int{}
	for _, r := range rs {
		for _, m := range r.Members {
			for _, p := range m.Positions {
				for s := p[0]; s < p[1]; s++ {
					counted[s]++
				}
			}
		}
	}
	for s := range uint64(240 * 8) {
		if counted[s] != 1 {
			t.Errorf("position %d counted %d times", s, counted[s])
		}
	}
	first, last := ends(t, out)
	t.Logf("%d rounds, loss %.3f to %.4f", len(rs), first, last)
	if !(last < first/2) {
		t.Errorf("the loss went from %.3f to %.3f", first, last)
	}
}
