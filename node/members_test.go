package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/membership"
	"github.com/seed-7b27c88a/shoal/node/task"
)

var quiet = slog.New(slog.DiscardHandler)

// inLab makes a test node's swarm the private one.
func inLab(c *config.Config) { c.Swarm = "lab" }

// joinLab takes a new home into the swarm of the admin's daemon.
func joinLab(t *testing.T, admin *api.Client, role string) (home string) {
	t.Helper()
	v, err := admin.Invite(t.Context(), api.InviteRequest{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	home = t.TempDir()
	j, err := JoinSwarm(t.Context(), home, v.Token, quiet)
	if err != nil || j.Name != "lab" || j.Member.Role.String() != role {
		t.Fatalf("joined %+v, %v", j, err)
	}
	return home
}

// A private swarm's life: founded, joined with invites, a job of a submitter taken by all, one of a volunteer by none,
// a member revoked and cut off, the swarm the same after restarts.
func TestPrivateSwarm(t *testing.T) {
	home, dir := t.TempDir(), tinyJob(t)
	if _, err := CreateSwarm(home, "lab", true); err != nil {
		t.Fatal(err)
	}
	ha := newHand()
	a, ca, stopA := newNode(t, home, ha, inLab)
	volunteer, submitter := joinLab(t, ca, "volunteer"), joinLab(t, ca, "submitter")
	hv, hs := newHand(), newHand()
	v, cv, _ := newNode(t, volunteer, hv, inLab)
	s, cs, _ := newNode(t, submitter, hs, inLab)
	await(t, func() bool { ms, err := ca.Members(t.Context()); return err == nil && connected(ms) == 3 })

	if _, err := cv.Submit(t.Context(), tinySpec(dir, "no"), nil); err == nil || !strings.Contains(err.Error(), "is a volunteer in swarm lab") {
		t.Errorf("a volunteer submitted: %v", err)
	}
	if _, err := cv.Invite(t.Context(), api.InviteRequest{}); err == nil || !strings.Contains(err.Error(), "no admin") {
		t.Errorf("a volunteer invited: %v", err)
	}
	if _, err := cs.Revoke(t.Context(), string(v.host.ID())); err == nil || !strings.Contains(err.Error(), "no admin") {
		t.Errorf("a submitter revoked: %v", err)
	}
	_, id := submit(t, cs, tinySpec(dir, "yes"))
	for _, h := range []*hand{hs, ha, hv} {
		if got := <-h.ran; got != id {
			t.Errorf("runs %v, want %v", got, id)
		}
	}
	// The volunteer's own software refuses to submit; other software would not.
	forged, err := task.Sign(task.Terms{Submitter: v.host.ID(), Spec: a.jobs.active()[0].Terms.Spec, Model: a.jobs.active()[0].Terms.Model,
		Data: a.jobs.active()[0].Terms.Data, Rows: 1, Params: 1}, v.host.Boot(), v.host.Key())
	if err != nil {
		t.Fatal(err)
	}
	v.offers.publish(t.Context(), forged)
	v.offers.publish(t.Context(), a.jobs.active()[0]) // comes after it, on the same streams
	if err := a.maySubmit(v.host.ID(), v.proof(v.host.ID())); err == nil || !strings.Contains(err.Error(), "may not submit") {
		t.Errorf("the admin's node lets a volunteer submit: %v", err)
	}

	gone, err := ca.Revoke(t.Context(), string(v.host.ID())[44:])
	if err != nil || len(gone.Members) != 1 || gone.Members[0] != string(v.host.ID()) {
		t.Fatalf("revoked %v, %v", gone, err)
	}
	await(t, func() bool { return len(v.host.Peers()) == 0 })
	if n := len(s.host.Peers()); n != 1 {
		t.Errorf("the submitter has %d peers, want the admin alone", n)
	}
	began := time.Now()
	await(t, func() bool {
		return strings.Contains(problems(t, cv), "no longer a member of lab: membership of "+string(v.host.ID())+" was revoked")
	})
	t.Logf("the revoked node knows after %v", time.Since(began))
	if js, err := ca.Jobs(t.Context()); err != nil || len(js) != 1 {
		t.Errorf("the admin's node knows %d jobs, want the submitter's alone", len(js))
	}

	stopA()
	_, ca, _ = newNode(t, home, newHand(), func(c *config.Config) { inLab(c); c.Bootstrap = s.host.Addrs()[:1] })
	await(t, func() bool { ms, err := ca.Members(t.Context()); return err == nil && connected(ms) == 2 })
	info, err := ca.Swarm(t.Context())
	if err != nil || !info.Private || info.Role != "admin" || !info.RootKey || info.Revoked != 1 || info.Members != 2 {
		t.Errorf("swarm after a restart: %+v, %v", info, err)
	}
}

// problems is what a node's status names, in one text.
func problems(t *testing.T, c *api.Client) (text string) {
	i, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range i.Problems {
		text += p.Detail + "; " + p.Fix + "\n"
	}
	return text
}

func connected(ms []api.SwarmMember) (n int) {
	for _, m := range ms {
		if m.Connected {
			n++
		}
	}
	return n
}

func TestSwarmFiles(t *testing.T) {
	home := t.TempDir()
	if _, err := CreateSwarm(home, "Bad Name", true); err == nil {
		t.Error("made a swarm with a bad name")
	}
	j, err := CreateSwarm(home, "lab", true)
	if err != nil || !j.HasRoot || j.Member.Until.Before(time.Now().Add(80*24*time.Hour)) {
		t.Fatalf("%+v, %v", j, err)
	}
	if _, err := CreateSwarm(home, "lab", true); err == nil || !strings.Contains(err.Error(), "leave") {
		t.Errorf("founded twice: %v", err)
	}
	if cfg, err := config.Load(home, func(string) string { return "" }, nil); err != nil || cfg.Swarm != "lab" {
		t.Errorf("the daemon would enter %q, %v", cfg.Swarm, err)
	}
	for _, f := range []string{"root", "member", "swarm"} {
		if st, err := os.Stat(filepath.Join(home, "swarms", "lab", f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, st, err)
		}
	}
	if js, err := membership.List(home); err != nil || len(js) != 1 || js[0].Root != j.Root {
		t.Errorf("list %+v, %v", js, err)
	}
	if err := LeaveSwarm(home, "other"); err == nil {
		t.Error("left a swarm it is not in")
	}
	if err := LeaveSwarm(home, "lab"); err != nil {
		t.Error(err)
	}
	if cfg, err := config.Load(home, func(string) string { return "" }, nil); err != nil || cfg.Swarm != "public" {
		t.Errorf("after leaving the daemon would enter %q, %v", cfg.Swarm, err)
	}
	if _, err := JoinSwarm(t.Context(), home, "shoal1abc", quiet); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("joined with nonsense: %v", err)
	}
}
