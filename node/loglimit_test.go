package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogLimit(t *testing.T) {
	var out bytes.Buffer
	l := NewLogLimit(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	now := time.Unix(0, 0)
	l.s.now = func() time.Time { return now }
	log := slog.New(l)
	for i := range 100 {
		log.Warn("connection refused", "peer", i, "why", "membership of 12D3KooWabc was revoked")
		log.Warn("connection refused", "peer", i, "why", "the invite is used up")
		log.Info("job", "name", i, "state", "running", "why", "")
		log.Debug("detail")
	}
	count := func(s string) int { return strings.Count(out.String(), s) }
	if r, u, j, d := count("revoked"), count("used up"), count("msg=job"), count("detail"); r != 1 || u != 1 || j != 100 || d != 100 {
		t.Errorf("%d, %d, %d and %d lines, want 1, 1, 100 and 100", r, u, j, d)
	}
	if l.Dropped() != 198 {
		t.Errorf("%d lines counted as left out", l.Dropped())
	}
	now = now.Add(61 * time.Second)
	log.With("room", "net").Warn("connection refused", "why", "membership of 12D3KooWxyz was revoked")
	if !strings.Contains(out.String(), "repeated=99") {
		t.Errorf("the next line does not say how many were left out:\n%s", out.String()[len(out.String())-200:])
	}
	for i := range 3 * logCauses {
		log.Warn("m", "why", strings.Repeat("x", i))
	}
	if len(l.s.seen) > logCauses {
		t.Errorf("%d causes remembered", len(l.s.seen))
	}
}
