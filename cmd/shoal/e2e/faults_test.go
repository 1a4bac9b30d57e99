package e2e

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// curveAfterFaults is how close the curve stays when nodes die: lost work is redone in the same step.
const curveAfterFaults = 1e-3

// submit starts a detached job and returns its id.
func submit(t *testing.T, d *daemon, spec string) string {
	t.Helper()
	if _, err := d.output(time.Minute, "train", "--detach", "-f", spec); err != nil {
		t.Fatal(err)
	}
	return lastJob(t, d)
}

// waitStep waits until the job has committed step n as d sees it.
func waitStep(t *testing.T, d *daemon, job string, n uint64) {
	t.Helper()
	eventually(t, 2*time.Minute, fmt.Sprintf("step %d is committed", n), func() error {
		rs, err := rounds(d, job)
		if err != nil {
			return err
		}
		if len(rs) == 0 || rs[len(rs)-1].Round < n {
			return fmt.Errorf("%d rounds so far", len(rs))
		}
		return nil
	})
}

// export waits for the end of the job and writes its result.
func export(t *testing.T, d *daemon, job string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "result")
	eventually(t, 90*time.Second, "the result is exported", func() error {
		_, err := d.output(time.Minute, "export", job, "-o", out)
		return err
	})
	return out
}

// TestSwarmFaults kills one of three nodes, freezes another, and lets a fourth join late.
func TestSwarmFaults(t *testing.T) {
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t)
	b := newDaemon(t, "--bootstrap", a.addr())
	c := newDaemon(t, "--bootstrap", a.addr())
	job := submit(t, a, writeSpec(t, dir, false, rows, "swarm: {min_peers: 3}\n"))

	waitStep(t, a, job, 8)
	b.kill()
	waitStep(t, a, job, 14)
	c.signal(syscall.SIGSTOP)
	thaw := time.AfterFunc(20*time.Second, func() { c.cmd.Process.Signal(syscall.SIGCONT) })
	defer thaw.Stop()
	d := newDaemon(t, "--bootstrap", a.addr())
	out := export(t, a, job)

	checkCurve(t, out, ref.Full, curveAfterFaults)
	checkOnce(t, job, 50, 4, a)
	checkAgreement(t, job, 50, a, d)
}

// TestSubmitterRestart kills the submitter's daemon; the job goes on and the result still reaches it.
func TestSubmitterRestart(t *testing.T) {
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t)
	b := newDaemon(t, "--bootstrap", a.addr())
	c := newDaemon(t, "--bootstrap", a.addr(), "--bootstrap", b.addr())
	job := submit(t, a, writeSpec(t, dir, true, rows, "swarm: {min_peers: 3}\n"))
	waitStep(t, b, job, 10)
	a.kill()
	waitStep(t, b, job, 20)
	a.args = append(a.args, "--bootstrap", b.addr(), "--bootstrap", c.addr())
	a.start()
	out := export(t, a, job)
	checkCurve(t, out, ref.LoRA, curveAfterFaults)
	checkOnce(t, job, 50, 4, b)
}

// TestAllRestart turns every node off and on; the job resumes from its last settled checkpoint.
func TestAllRestart(t *testing.T) {
	dir := refDir(t)
	ref, rows := loadReference(t, dir), writeRows(t, dir)
	a := newDaemon(t)
	b := newDaemon(t, "--bootstrap", a.addr())
	job := submit(t, a, writeSpec(t, dir, true, rows, "swarm: {min_peers: 2}\ncheckpoint: {every_steps: 5}\n"))
	waitStep(t, a, job, 17)
	a.kill()
	b.kill()
	a.start()
	b.args = append(b.args, "--bootstrap", a.addr())
	b.start()
	out := export(t, a, job)
	checkCurve(t, out, ref.LoRA, curveAfterFaults)
}
