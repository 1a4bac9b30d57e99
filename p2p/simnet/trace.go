package simnet

import (
	"fmt"
	"io"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// traced is one event as Dump tells it. It is put into words only then.
type traced struct {
	at       time.Duration
	what     string // "": a message
	from, to record.PeerID
	msg      any
	text     func() string
}

// ring keeps the last size events.
type ring struct {
	events []traced
	size   int
	next   int
}

func (r *ring) add(t traced) {
	if len(r.events) < r.size {
		r.events = append(r.events, t)
		return
	}
	r.events[r.next] = t
	r.next = (r.next + 1) % r.size
}

func (n *Net) note(what string, from, to record.PeerID, msg any) {
	n.trace.add(traced{at: n.now, what: what, from: from, to: to, msg: msg})
}

// Dump writes the last events, oldest first.
func (n *Net) Dump(w io.Writer) {
	for i := range n.trace.events {
		t := n.trace.events[(n.trace.next+i)%len(n.trace.events)]
		fmt.Fprintf(w, "%12s  %s\n", t.at, t)
	}
}

const maxTracedMsg = 200 // characters of a message in a trace

func (t traced) String() string {
	if t.text != nil {
		return t.text()
	}
	s := fmt.Sprintf("%s %s", t.what, t.from)
	switch {
	case t.what == "":
		s = fmt.Sprintf("%s > %s", t.from, t.to)
	case t.to != "":
		s = fmt.Sprintf("%s %s | %s", t.what, t.from, t.to)
	}
	if t.msg == nil {
		return s
	}
	m := fmt.Sprintf("%v", t.msg)
	if len(m) > maxTracedMsg {
		m = m[:maxTracedMsg] + "…"
	}
	return s + "  " + m
}
