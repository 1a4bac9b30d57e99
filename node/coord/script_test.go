package coord

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/shard"
)

var update = flag.Bool("update", false, "rewrite the expected output of testdata/*.txt")

// TestScripts runs testdata/*.txt: blocks of commands, a line "----", and what one node's log and notes said meanwhile.
//
//	swarm nodes steps batch min every   begins, with these numbers
//	pipeline nodes steps batch min every
//	                                    the same, in three stages
//	start N…, kill N…, freeze N…, thaw N…, leave N, cancel N
//	watch N                             whose log is shown
//	round R, phase P, generation G, ended, rest D
//	                                    run until then (of the nodes that live), or for a while
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s: got\n%s", f, got)
			}
		})
	}
}

// script is a swarm and what its watched node said since the last block.
type script struct {
	*swarm
	watched int
	said    []string
}

func runScript(t *testing.T, text string) string {
	var out strings.Builder
	s := &script{}
	for block := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		for line := range strings.SplitSeq(commands, "\n") {
			if line != "" && !strings.HasPrefix(line, "#") {
				s.run(t, strings.Fields(line))
			}
		}
		fmt.Fprintf(&out, "%s\n----\n%s\n", commands, strings.Join(append(s.said, ""), "\n"))
		s.said = nil
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func (s *script) run(t *testing.T, f []string) {
	var n []int
	for _, a := range f[1:] {
		var k int
		fmt.Sscan(strings.TrimPrefix(a, "n"), &k)
		n = append(n, k)
	}
	switch f[0] {
	case "swarm", "pipeline":
		o := options{nodes: n[0], steps: uint64(n[1]), batch: uint64(n[2]), min: n[3], every: uint64(n[4]), flow: f[0] == "pipeline"}
		s.swarm = newSwarm(t, 1, o)
		s.hear = s.listen
	case "watch":
		s.watched = n[0]
	case "round":
		s.until("round", 2*time.Minute, func() bool { return s.round() >= uint64(n[0]) })
	case "phase":
		s.until("phase", time.Minute, func() bool { return s.phase() == f[1] || s.flowPhase() == f[1] })
	case "generation":
		s.until("generation", 2*time.Minute, func() bool { return s.living()[0].m.job.gen == uint32(n[0]) })
	case "ended":
		s.until("end", 5*time.Minute, s.allEnded)
	case "rest":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		s.net.Run(s.net.Now() + d)
	default:
		for _, k := range n {
			s.affect(t, f[0], k)
		}
	}
}

func (s *script) affect(t *testing.T, what string, k int) {
	node := s.nodes[k]
	switch what {
	case "start":
		s.start(k)
	case "kill":
		s.net.Kill(node.id)
	case "freeze":
		s.net.Freeze(node.id)
	case "thaw":
		s.net.Thaw(node.id)
	case "leave":
		node.run.do(Leave{})
	case "cancel":
		node.run.do(CancelJob{Why: "no more"})
	default:
		t.Fatalf("unknown command %q", what)
	}
}

// listen writes down what the watched node says.
func (s *script) listen(r *run, ef Effect) {
	if r.node != s.nodes[s.watched] {
		return
	}
	switch e := ef.(type) {
	case Logged:
		if o, err := OpenEntry(plainKeys{}, e.Entry); err == nil {
			s.said = append(s.said, describe(o))
		}
	case Note:
		s.said = append(s.said, "note: "+e.Text)
	case Fetch:
		s.said = append(s.said, fmt.Sprintf("fetch round %d from %v, checkpoint %v", e.Round, e.Donors, e.Manifest.Defined()))
	case Rollback:
		s.said = append(s.said, fmt.Sprintf("back to round %d", e.Round))
	case End:
		s.said = append(s.said, strings.TrimSpace("ends: "+e.State+" "+e.Why))
	}
}

// describe is an entry in a line.
func describe(e *Entry) string {
	h := e.Header
	head := fmt.Sprintf("%s %d.%d.%d", strings.TrimPrefix(h.Context, "shoal/"), h.Generation, h.Round, attemptOf(h.Attempt))
	switch b := e.Body.(type) {
	case *PlanEntry:
		return head + planText(b)
	case *CutEntry:
		return fmt.Sprintf("%s: %d pieces, totals %v", head, len(b.Set), b.Totals != nil)
	case *TotalsEntry:
		return fmt.Sprintf("%s: %d tokens", head, b.Totals.Weight)
	case *CommitEntry:
		text := head + ":"
		for _, c := range b.Counted {
			text += fmt.Sprintf(" %s%s%s", c.Peer, stageText(c.Stage), ranges(c.Ranges))
		}
		for _, a := range b.Absent {
			text += fmt.Sprintf("; without %s (%s: %s)", a.Peer, a.Phase, a.Why)
		}
		if b.Plan != nil {
			text += "; next" + planText(b.Plan)
		}
		return text
	case *SettleEntry:
		return fmt.Sprintf("%s: held by %v", head, b.Holders)
	case *MembersEntry:
		text := head + ":"
		for _, k := range b.Keepers {
			text += " " + string(k.ID)
		}
		return text + " (" + b.Why + ")"
	case *ResetHeld:
		return fmt.Sprintf("%s: %d keepers, regular %v", head, len(b.entry.Keepers), b.entry.Regular)
	}
	return head
}

func planText(p *PlanEntry) string {
	text := ":"
	if p.Begun != nil {
		text = fmt.Sprintf(", pipe of attempt %d:", attemptOf(p.Begun.Attempt))
	}
	for _, r := range p.Members {
		text += " " + string(r.ID) + stageText(r.Stage)
		if r.Syncing {
			text += "(syncing)"
		}
		for _, pc := range p.Pieces {
			if pc.ID == r.ID {
				text += ranges(pc.Ranges)
			}
		}
	}
	return text
}

func stageText(stage int) string {
	if stage == 0 {
		return ""
	}
	return fmt.Sprint("/", stage)
}

func ranges(rs []shard.Range) (text string) {
	for _, r := range rs {
		text += fmt.Sprintf("[%d,%d)", r.Lo, r.Hi)
	}
	return text
}
