package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// soakSteps is how long each job of the soak is; its curve is the beginning of the reference's.
const soakSteps = 20

// TestProcessFaults kills or stops processes at random moments of a job: a member (each of them owns chunks), the
// submitter, the leader, and so many that most keepers of the log are among them. The job ends, each position counts
// once, and the curve is that of an undisturbed run. SHOAL_FAULTS says how often each; without it, every other one happens
// once. SHOAL_SEED repeats a run.
func TestProcessFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes most of a minute")
	}
	times, seed := number(t, "SHOAL_FAULTS", 1), number(t, "SHOAL_SEED", usualSeed())
	t.Logf("SHOAL_SEED=%d", seed)
	faultsOn(t, newSoak(t, rand.New(rand.NewPCG(seed, 1)), ""), times, seed)
}

// TestProcessFaultsOwners is the same where owners step, with mirrors that let nothing be lost.
func TestProcessFaultsOwners(t *testing.T) {
	if os.Getenv("SHOAL_FAULTS") == "" {
		t.Skip("SHOAL_FAULTS is not set: it takes minutes")
	}
	times, seed := number(t, "SHOAL_FAULTS", 1), number(t, "SHOAL_SEED", usualSeed())
	t.Logf("SHOAL_SEED=%d", seed)
	faultsOn(t, newSoak(t, rand.New(rand.NewPCG(seed, 2)), "parallel: {zero: 2, mirror_rounds: 1}\n"), times, seed)
}

func faultsOn(t *testing.T, s *soak, times, seed uint64) {
	for n := range times {
		for i, role := range []string{"member", "submitter", "leader", "majority"} {
			for k, fault := range []string{"kill", "stop"} {
				if os.Getenv("SHOAL_FAULTS") == "" && i%2 != k {
					continue // every other one in a short run
				}
				began := time.Now()
				s.strike(role, fault)
				if t.Failed() {
					t.Fatalf("%s %s, the %d. time; SHOAL_SEED=%d", fault, role, n+1, seed)
				}
				t.Logf("%s %s: the job took %.1f s", fault, role, time.Since(began).Seconds())
			}
		}
	}
}

// usualSeed is always the same one, but in the soak.
func usualSeed() uint64 {
	if os.Getenv("SHOAL_FAULTS") == "" {
		return 1
	}
	return uint64(time.Now().UnixNano())
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// soak is four nodes that stay while jobs come and processes go.
type soak struct {
	t     *testing.T
	rng   *rand.Rand
	nodes []*daemon // the first one submits
	ids   []string
	spec  string
	want  curve
}

func newSoak(t *testing.T, rng *rand.Rand, more string) *soak { return newSoakOf(t, rng, 4, more) }

func newSoakOf(t *testing.T, rng *rand.Rand, nodes int, more string) *soak {
	dir := refDir(t)
	s := &soak{t: t, rng: rng, want: loadReference(t, dir).LoRA}
	s.want.F64.Loss, s.want.F64.Norm = s.want.F64.Loss[:soakSteps], s.want.F64.Norm[:soakSteps]
	s.spec = shorter(t, writeSpec(t, dir, true, writeRows(t, dir), fmt.Sprintf("swarm: {min_peers: %d}\ncheckpoint: {every_steps: 5}\n", nodes)+more))
	for range nodes {
		s.nodes = append(s.nodes, newDaemon(t, s.bootstraps()...))
	}
	for _, d := range s.nodes {
		st, err := d.status()
		if err != nil {
			t.Fatal(err)
		}
		s.ids = append(s.ids, st.ID)
	}
	return s
}

// shorter makes a reference run end after soakSteps; its schedule is constant, so that changes nothing before.
func shorter(t *testing.T, spec string) string {
	text, err := os.ReadFile(spec)
	if err == nil {
		err = os.WriteFile(spec, bytes.ReplaceAll(text, []byte("max_steps: 50\n"), fmt.Appendf(nil, "max_steps: %d\n", soakSteps)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// bootstraps are the addresses of the nodes that run.
func (s *soak) bootstraps() (args []string) {
	for _, d := range s.nodes {
		select {
		case <-d.done:
		default:
			args = append(args, "--bootstrap", d.addr())
		}
	}
	return args
}

// strike runs one job with one fault in it.
func (s *soak) strike(role, fault string) {
	job := submit(s.t, s.nodes[0], s.spec)
	waitStep(s.t, s.nodes[0], job, 1+s.rng.Uint64N(soakSteps-8))
	victims := s.victims(role, job)
	if fault == "kill" {
		s.kill(victims)
	} else {
		s.stop(victims)
	}
	for _, d := range s.nodes {
		waitState(s.t, d, job, "done")
	}
	checkCurve(s.t, export(s.t, s.nodes[0], job), s.want, curveAfterFaults)
	checkOnce(s.t, job, soakSteps, 4, s.nodes...)
}

// victims are the nodes that a fault hits. Three of the four nodes keep the log, so three are most of the keepers at least.
func (s *soak) victims(role, job string) (hit []*daemon) {
	leader := s.leader(job)
	switch role {
	case "submitter":
		return s.nodes[:1]
	case "leader":
		return s.nodes[leader : leader+1]
	case "member":
		for i := range s.nodes {
			if i != leader && i != 0 {
				hit = append(hit, s.nodes[i])
			}
		}
		k := s.rng.IntN(len(hit))
		return hit[k : k+1]
	}
	out := s.rng.IntN(len(s.nodes))
	return slices.Delete(slices.Clone(s.nodes), out, out+1)
}

// leader is who led the newest round.
func (s *soak) leader(job string) int {
	s.t.Helper()
	rs, err := rounds(s.nodes[0], job)
	if err != nil || len(rs) == 0 {
		s.t.Fatalf("%d rounds, %v", len(rs), err)
	}
	return max(0, slices.Index(s.ids, rs[len(rs)-1].Leader))
}

// kill ends processes as a power cut would, and starts them again after a while.
func (s *soak) kill(victims []*daemon) {
	for _, d := range victims {
		d.kill()
	}
	s.wait(3 * time.Second)
	for _, d := range victims {
		d.args = s.bootstraps()
		d.start()
	}
}

// stop freezes processes for a while.
func (s *soak) stop(victims []*daemon) {
	for _, d := range victims {
		d.signal(syscall.SIGSTOP)
	}
	s.wait(7 * time.Second)
	for _, d := range victims {
		d.signal(syscall.SIGCONT)
	}
}

// wait lets a random part of limit pass: how long a fault lasts is a part of it.
func (s *soak) wait(limit time.Duration) {
	<-time.After(time.Duration(s.rng.Int64N(int64(limit))))
}
