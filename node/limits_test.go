package node

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// A pause stops the job, names its reason, outlives a restart, and ends by word or by time.
func TestPause(t *testing.T) {
	h, dir, home := newHand(), tinyJob(t), t.TempDir()
	_, c, stop := newNode(t, home, h, nil)
	_, id := submit(t, c, tinySpec(dir, "long"))
	<-h.ran
	began := time.Now()
	info, err := c.Pause(t.Context(), api.PauseRequest{})
	if err != nil || !strings.Contains(info.Paused, "by the owner") {
		t.Fatalf("%+v, %v", info, err)
	}
	await(t, func() bool { i, err := c.Info(t.Context()); return err == nil && i.Jobs == 0 })
	if took := time.Since(began); took > time.Second {
		t.Errorf("idle after %v", took)
	}
	if j, err := c.Job(t.Context(), "long"); err != nil || j.State != api.Waiting {
		t.Errorf("paused job %+v, %v", j, err)
	}
	stop()

	h = newHand()
	_, c, _ = newNode(t, home, h, nil)
	if i, err := c.Info(t.Context()); err != nil || i.Jobs != 0 || i.Paused == "" {
		t.Errorf("after a restart: %+v, %v", i, err)
	}
	if i, err := c.Resume(t.Context()); err != nil || i.Paused != "" {
		t.Errorf("resumed: %+v, %v", i, err)
	}
	if got := <-h.ran; got != id {
		t.Errorf("runs %v, want %v", got, id)
	}
	if i, err := c.Pause(t.Context(), api.PauseRequest{For: 7200}); err != nil || !strings.Contains(i.Paused, "until 20") {
		t.Errorf("paused for two hours: %+v, %v", i, err)
	}
	if _, err := c.Pause(t.Context(), api.PauseRequest{For: -1}); err == nil {
		t.Error("paused for less than nothing")
	}
}

func TestPauseEndsByItself(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	n, c, _ := newNode(t, t.TempDir(), h, nil)
	submit(t, c, tinySpec(dir, "long"))
	<-h.ran
	if _, err := c.Pause(t.Context(), api.PauseRequest{For: 3600}); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { i, err := c.Info(t.Context()); return err == nil && i.Jobs == 0 })
	n.limits.mu.Lock()
	n.limits.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	n.limits.mu.Unlock()
	n.limits.signal()
	<-h.ran
}

func TestScheduleHoldsWork(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	night := config.Schedule{From: 22 * time.Hour, To: 7 * time.Hour}
	n, c, _ := newNode(t, t.TempDir(), h, func(c *config.Config) { c.Schedule = night })
	clock := func(hour int) {
		n.limits.mu.Lock()
		n.limits.now = func() time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.Local) }
		n.limits.mu.Unlock()
		n.limits.signal()
	}
	clock(12)
	await(t, func() bool {
		i, err := c.Info(t.Context())
		return err == nil && i.Paused == "the schedule is 22:00-07:00"
	})
	submit(t, c, tinySpec(dir, "night"))
	clock(23)
	<-h.ran
	clock(8)
	await(t, func() bool { i, err := c.Info(t.Context()); return err == nil && i.Jobs == 0 })
	if _, err := c.SetLimits(t.Context(), map[string]string{"schedule": "none"}); err != nil {
		t.Fatal(err)
	}
	<-h.ran
}

func TestSetLimits(t *testing.T) {
	home := t.TempDir()
	_, c, stop := newNode(t, home, newHand(), nil)
	got, err := c.SetLimits(t.Context(), map[string]string{"max_up": "10Mbit", "max_jobs": "0"})
	if err != nil || got["max_up"] != "10Mbit" || got["max_down"] != "none" || got["max_jobs"] != "0" {
		t.Errorf("%v, %v", got, err)
	}
	for k, v := range map[string]string{"max_up": "1kbit", "max_cpu": "lots", "home": "/"} {
		if _, err := c.SetLimits(t.Context(), map[string]string{k: v}); err == nil {
			t.Errorf("%s %s was taken", k, v)
		}
	}
	stop()
	if cfg, err := config.Load(home, func(string) string { return "" }, nil); err != nil || cfg.MaxUp != 1250000 || cfg.MaxJobs != 0 {
		t.Errorf("the next start has %+v, %v", cfg.Limits, err)
	}
}

// The clock is looked at when a pause is to end, not some seconds later.
func TestPauseEndsInTime(t *testing.T) {
	now := time.Now()
	l := &limits{now: func() time.Time { return now }}
	for left, want := range map[time.Duration]time.Duration{time.Hour: pauseCheck, 2 * time.Second: 2*time.Second + time.Millisecond, -time.Second: time.Millisecond} {
		l.paused = pausedBy{On: true, Until: now.Add(left)}
		if got := l.nap(); got != want {
			t.Errorf("%v left: looks again after %v, want %v", left, got, want)
		}
	}
	l.paused = pausedBy{On: true}
	if got := l.nap(); got != pauseCheck {
		t.Error(got)
	}
}
