package node

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// Two nodes in one process show their own numbers.
func TestMetrics(t *testing.T) {
	h, dir := newHand(), tinyJob(t)
	a, ca, _ := newNode(t, t.TempDir(), h, nil)
	b, cb, _ := newNode(t, t.TempDir(), newHand(), func(c *config.Config) { c.Bootstrap = a.host.Addrs()[:1] })
	await(t, func() bool { ps, err := cb.Peers(t.Context()); return err == nil && len(ps) == 1 && ps[0].Latency > 0 })
	submit(t, ca, tinySpec(dir, "measured"))
	id := <-h.ran
	h.do(id, stepped(7, 2.5))
	if _, err := cb.Pause(t.Context(), api.PauseRequest{}); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[*Node][]string{
		a: {`shoal_peers{path="direct"} 1`, `shoal_job_step{job="` + id.String() + `",name="measured"} 7`, `shoal_jobs{state="running"} 1`, `shoal_paused{reason=""} 0`},
		b: {`shoal_peer_latency_seconds{path="direct",peer="` + string(a.host.ID()) + `"} `, `shoal_paused{reason="by the owner`,
			`shoal_bytes_total{dir="up",kind="control"} `, `shoal_wire_bytes_total{dir="down"} `, "# TYPE shoal_bytes_total counter"},
	} {
		resp, err := http.Get("http://" + n.listener.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", resp.Status, err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("no %s in\n%s", w, text)
			}
		}
	}
}
