package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	logEvery  = time.Minute
	logCauses = 1024 // causes remembered; beyond it all are forgotten, which only repeats some lines
)

// LogLimit passes on one line per minute and cause, and says with the next one how many it left out. The cause of a
// line is its message with the attribute why or err, and all attributes if it has neither: so peers and addresses that
// fail the same way are one cause, and different states of jobs are not.
type LogLimit struct {
	slog.Handler
	s    *logState
	with string // attributes that the handler has already
}

type logState struct {
	now     func() time.Time
	dropped atomic.Uint64

	mu   sync.Mutex // guards seen
	seen map[string]*cause
}

type cause struct {
	last    time.Time // when a line was passed on
	skipped int
}

// NewLogLimit limits what h gets. Debug lines are not limited.
func NewLogLimit(h slog.Handler) *LogLimit {
	return &LogLimit{Handler: h, s: &logState{now: time.Now, seen: map[string]*cause{}}}
}

// Dropped counts the lines left out.
func (l *LogLimit) Dropped() uint64 { return l.s.dropped.Load() }

// Handle implements slog.Handler.
func (l *LogLimit) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return l.Handler.Handle(ctx, r)
	}
	skipped, pass := l.s.pass(l.cause(r))
	if !pass {
		return nil
	}
	if skipped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", skipped))
	}
	return l.Handler.Handle(ctx, r)
}

func (l *LogLimit) cause(r slog.Record) string {
	var why string
	var all strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "why" || a.Key == "err" {
			why = a.Key + "=" + withoutIDs(a.Value.String())
		}
		all.WriteString(a.String() + "\x00")
		return why == ""
	})
	if why != "" && why != "why=" {
		return r.Level.String() + r.Message + "\x00" + why
	}
	return r.Level.String() + r.Message + "\x00" + l.with + all.String()
}

// withoutIDs takes peer IDs and whatever has a digit (addresses, ports, times) out of a reason.
func withoutIDs(text string) string {
	words := strings.Fields(text)
	kept := words[:0]
	for _, w := range words {
		if !strings.ContainsAny(w, "0123456789") {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

// pass reports whether a line of the cause may go out now, and how many were left out before it.
func (s *logState) pass(key string) (skipped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c := s.seen[key]
	if c == nil {
		if len(s.seen) >= logCauses {
			clear(s.seen)
		}
		s.seen[key] = &cause{last: now}
		return 0, true
	}
	if now.Sub(c.last) < logEvery {
		c.skipped++
		s.dropped.Add(1)
		return 0, false
	}
	skipped, c.skipped, c.last = c.skipped, 0, now
	return skipped, true
}

// WithAttrs implements slog.Handler.
func (l *LogLimit) WithAttrs(as []slog.Attr) slog.Handler {
	with := l.with
	for _, a := range as {
		with += a.String() + "\x00"
	}
	return &LogLimit{Handler: l.Handler.WithAttrs(as), s: l.s, with: with}
}

// WithGroup implements slog.Handler.
func (l *LogLimit) WithGroup(name string) slog.Handler {
	return &LogLimit{Handler: l.Handler.WithGroup(name), s: l.s, with: l.with + name + "\x00"}
}
