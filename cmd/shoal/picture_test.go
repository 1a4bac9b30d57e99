package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/task"
)

// TestRoundsPicture: the timeline is well-formed, and names who was left out and why.
func TestRoundsPicture(t *testing.T) {
	var r api.Round
	r.Round, r.Seconds, r.Collect, r.Leader = 3, 2, 1.5, "a"
	r.Members = []task.RoundMember{
		{Peer: "a", Positions: [][2]uint64{{4, 8}}}, {Peer: "b", Left: "attempt 1, work: connection <lost>"},
	}
	var b bytes.Buffer
	if err := roundsPicture(&b, []api.Round{r}); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(b.String()))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(b.String(), "round 3: b: attempt 1, work: connection &lt;lost&gt;") {
		t.Error(b.String())
	}
}
