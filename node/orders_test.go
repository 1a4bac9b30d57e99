package node

import (
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// A job that was cancelled goes on by its submitter's order, there and at another node that hears of the order; both
// remember it over a restart.
func TestResumeJob(t *testing.T) {
	ha, hb, dir, home := newHand(), newHand(), tinyJob(t), t.TempDir()
	a, ca, _ := newNode(t, t.TempDir(), ha, nil)
	b, cb, stop := newNode(t, home, hb, nil)
	_, id := submit(t, ca, tinySpec(dir, "again"))
	<-ha.ran
	e, err := a.jobs.find("again")
	if err != nil {
		t.Fatal(err)
	}
	theirs := e.task
	theirs.Mine = false
	if err := b.jobs.admit(theirs, ""); err != nil {
		t.Fatal(err)
	}
	<-hb.ran
	if _, err := ca.ResumeJob(t.Context(), "again"); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("resume of a running job: %v", err)
	}
	hb.do(id, task.Ended{State: api.Cancelled})
	ha.do(id, stepped(1, 3), stepped(2, 2.5), task.Ended{State: api.Cancelled})
	if _, err := cb.ResumeJob(t.Context(), "again"); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("resume by another node: %v", err)
	}
	if j, err := ca.ResumeJob(t.Context(), "again"); err != nil || api.Final(j.State) {
		t.Fatalf("resumed as %q, %v", j.State, err)
	}
	<-ha.ran
	a.jobs.mu.Lock()
	ordered := e.current()
	a.jobs.mu.Unlock()
	if ordered.Order != (task.Order{Number: 1, Step: 2}) {
		t.Errorf("order %+v, want the newest checkpoint's step", ordered.Order)
	}
	offered := data(t, offer{Signed: ordered.Signed, Order: ordered.Ordered})
	b.offers.hear("", offered)
	<-hb.ran
	b.offers.hear("", offered) // no news
	hb.do(id, task.Ended{State: api.Done})
	b.offers.hear("", offered)
	stop()
	_, cb, _ = newNode(t, home, newHand(), nil)
	if j, err := cb.Job(t.Context(), "again"); err != nil || j.State != api.Done {
		t.Errorf("after its end %q, %v", j.State, err)
	}
}

// A running job goes back to a checkpoint that it has, and to no other.
func TestRollbackJob(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	_, c, _ := newNode(t, t.TempDir(), h, nil)
	_, id := submit(t, c, tinySpec(dir, "back"))
	<-h.ran
	h.do(id, stepped(1, 3), stepped(2, 2.5), stepped(3, 2))
	list, err := c.Checkpoints(t.Context(), "back")
	if err != nil || len(list) != 1 || list[0].Loss != 2.5 || !list[0].Settled {
		t.Errorf("checkpoints %+v, %v", list, err)
	}
	if _, err := c.Rollback(t.Context(), "back", 3); err == nil || !strings.Contains(err.Error(), "[0 2]") {
		t.Errorf("rollback to nothing: %v", err)
	}
	if j, err := c.Rollback(t.Context(), "back", 2); err != nil || j.Step != 2 {
		t.Errorf("at step %d, %v", j.Step, err)
	}
	h.kept = append(h.kept, task.Checkpoint{Step: 3})
	if list, err := c.Checkpoints(t.Context(), "back"); err != nil || len(list) != 2 || list[0].Left || !list[1].Left {
		t.Errorf("after a rollback: %+v, %v", list, err)
	}
	h.do(id, task.Ended{State: api.Done})
	if _, err := c.Rollback(t.Context(), "back", 2); err == nil || !strings.Contains(err.Error(), "is done") {
		t.Errorf("rollback of a job that is done: %v", err)
	}
}

// Of a diloco job checkpoints are named by the steps of all members, as the job itself is; the runtime hears of its rounds.
func TestRollbackDiLoCo(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	h.kept = []task.Checkpoint{{Step: 2, Settled: true}}
	_, c, _ := newNode(t, t.TempDir(), h, nil)
	_, id := submit(t, c, tinySpec(dir, "rounds"))
	<-h.ran
	for i := range uint64(3) {
		h.do(id, task.Stepped{StepReport: trainer.StepReport{Step: i + 1, Batches: 12 * (i + 1), Loss: 3}})
	}
	h.do(id, task.Settled{Step: 2})
	if j, err := c.Job(t.Context(), "rounds"); err != nil || j.Step != 36 || j.Settled != 24 {
		t.Errorf("step %d, settled %d, %v", j.Step, j.Settled, err)
	}
	if list, err := c.Checkpoints(t.Context(), "rounds"); err != nil || len(list) != 1 || list[0].Step != 24 || list[0].Round != 2 || list[0].Loss != 3 {
		t.Errorf("checkpoints %+v, %v", list, err)
	}
	if _, err := c.Rollback(t.Context(), "rounds", 2); err == nil || !strings.Contains(err.Error(), "[0 24]") {
		t.Errorf("rollback to a round: %v", err)
	}
	if j, err := c.Rollback(t.Context(), "rounds", 24); err != nil || j.Step != 24 {
		t.Errorf("at step %d, %v", j.Step, err)
	}
}

func data(t *testing.T, o offer) []byte {
	t.Helper()
	b, err := record.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
