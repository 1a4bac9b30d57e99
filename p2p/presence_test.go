package p2p

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// TestPresence plays scripts of "second event" lines; an event that changes something says so.
func TestPresence(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"comes and goes", "0 hello1, 1 gone", "0 up1, 1 down"},
		{"hello again", "0 hello1, 1 hello1", "0 up1"},
		{"restart without a disconnect", "0 hello1, 1 hello2", "0 up1, 1 up2"},
		{"silent", "0 hello1, 1 tick, 2 tick, 3 tick, 4 tick, 5 tick, 6 tick, 7 tick", "0 up1, 6 down"},
		{"signs of life", "0 hello1, 2 tick, 4 tick, 4 heard, 6 tick, 8 tick, 9 tick, 10 tick", "0 up1, 10 down"},
		{"thaws", "0 hello1, 2 tick, 4 tick, 6 tick, 8 tick, 8 heard, 9 tick", "0 up1, 6 down, 9 up1"},
		{"we stood still", "0 hello1, 1 tick, 30 tick, 32 tick, 34 tick, 36 tick", "0 up1, 36 down"},
		{"gone while silent", "0 hello1, 2 tick, 4 tick, 6 tick, 7 gone, 8 heard, 9 tick", "0 up1, 6 down"},
		{"gone unknown", "0 gone", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := play(tc.script); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func play(script string) string {
	p := presence{peers: map[record.PeerID]*present{}}
	var lastHeard time.Duration
	var out []string
	for _, line := range strings.Split(script, ", ") {
		var sec, boot int
		var what string
		fmt.Sscanf(line, "%d %s", &sec, &what)
		now := time.Duration(sec) * time.Second
		var changed []record.PeerID
		switch {
		case strings.HasPrefix(what, "hello"):
			fmt.Sscanf(what, "hello%d", &boot)
			changed, _ = p.hello("p", uint64(boot), now)
		case what == "gone":
			changed = p.gone("p")
		case what == "heard":
			lastHeard = now
		case what == "tick":
			changed = p.tick(now, func(record.PeerID) time.Duration { return lastHeard })
		}
		for range changed {
			if b := p.state("p"); b != 0 {
				out = append(out, fmt.Sprintf("%d up%d", sec, b))
			} else {
				out = append(out, fmt.Sprintf("%d down", sec))
			}
		}
	}
	return strings.Join(out, ", ")
}
