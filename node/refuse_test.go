package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/shard"
)

// call is one request of the API and the status that it deserves.
type call struct {
	method, path, body string
	want               int
	says               string // in the message; empty: anything
}

// Whatever a caller sends that cannot be used is the caller's fault, in every handler: never a 500, always a reason.
func TestBadInput(t *testing.T) {
	dir := tinyJob(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	torn, empty := write("torn.jsonl", "{\"text\": \n"), write("empty.jsonl", "")
	broken := filepath.Join(dir, "broken")
	if err := os.Mkdir(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	write("broken/config.json", `{"model_type": "llama", "hidden_size": -1}`)
	write("broken/model.safetensors", "junk")
	h := newHand()
	h.kept = nil
	n, c, _ := newNode(t, t.TempDir(), h, nil)
	submit(t, c, tinySpec(dir, "busy"))
	<-h.ran
	job := func(change string) string {
		spec := map[string]any{"version": "shoal/v1", "base_model": filepath.Join(dir, "model"), "adapter": "lora", "max_steps": 5,
			"datasets": []any{map[string]any{"path": filepath.Join(dir, "rows.jsonl")}}, "optimizer": map[string]any{"lr": 0.01}}
		if err := json.Unmarshal([]byte(change), &spec); err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(spec)
		return string(b)
	}
	rows := func(path string) string { return job(fmt.Sprintf(`{"datasets": [{"path": %q}]}`, path)) }
	unknown := shard.Sum(0x55, []byte("nobody has this"))
	refuse(t, n, []call{
		{"GET", "jobs/nobody", "", 404, "no job"},
		{"GET", "jobs/nobody/rounds", "", 404, "no job"},
		{"GET", "jobs/nobody/metrics", "", 404, "no job"},
		{"GET", "jobs/nobody/events", "", 404, "no job"},
		{"GET", "jobs/nobody/result", "", 404, "no job"},
		{"POST", "jobs/nobody/cancel", "", 404, "no job"},
		{"DELETE", "jobs/nobody", "", 404, "no job"},
		{"GET", "jobs/nobody/checkpoints", "", 404, "no job"},
		{"POST", "jobs/nobody/resume", "{}", 404, "no job"},
		{"POST", "jobs/nobody/rollback", `{"step": 1}`, 404, "no job"},
		{"POST", "jobs/busy/rollback", `{"step": -1}`, 400, ""},
		{"POST", "jobs/busy/rollback", `{"step": 99}`, 404, "no checkpoint of step 99"},
		{"POST", "jobs/busy/rollback", "{", 400, ""},
		{"POST", "jobs/busy/resume", "", 409, ""},
		{"DELETE", "jobs/busy", "", 409, "end it first"},
		{"GET", "jobs/%00%ff", "", 404, ""},
		{"GET", "jobs/busy/metrics?since=x", "", 400, "since"},
		{"GET", "jobs/busy/metrics?since=-1", "", 400, "since"},
		{"GET", "jobs/busy/events?after=x", "", 400, "after"},
		{"GET", "jobs/busy/result?as=stone", "", 400, "stone"},
		{"GET", "jobs/busy/result?partial=maybe", "", 400, "partial"},
		{"GET", "jobs/busy/result", "", 409, "--partial"},
		{"GET", "jobs/busy/result?partial=true", "", 409, "no settled checkpoint"},
		{"PUT", "jobs/busy", "{}", 404, "no route"},
		{"GET", "jobs/nobody/checkpoints", "", 404, "no job"},
		{"POST", "jobs/nobody/resume", "", 404, "no job"},
		{"POST", "jobs/busy/resume", "", 409, "is running"},
		{"POST", "jobs/busy/rollback", "", 400, ""},
		{"POST", "jobs/busy/rollback", "{}", 400, "step"},
		{"POST", "jobs/busy/rollback", `{"step": -1}`, 400, "step"},
		{"POST", "jobs/busy/rollback", `{"step": 7}`, 404, "no checkpoint"},

		{"POST", "jobs", "", 400, ""},
		{"POST", "jobs", "{}", 400, "version"},
		{"POST", "jobs", "{", 400, ""},
		{"POST", "jobs", job(`{"lora_rank": 1}`), 400, "unknown key"},
		{"POST", "jobs", job(`{"base_model": "nobody"}`), 400, "name a directory"},
		{"POST", "jobs", job(fmt.Sprintf(`{"base_model": %q}`, broken)), 400, "hidden_size"},
		{"POST", "jobs", rows("/nowhere/rows.jsonl"), 400, "rows.jsonl"},
		{"POST", "jobs", rows(torn), 400, "torn.jsonl:1"},
		{"POST", "jobs", rows(empty), 400, ""},
		{"POST", "jobs", rows(dir), 400, ""},
		{"POST", "jobs", job(`{"lora_model_dir": "/nowhere"}`), 400, "nowhere"},
		{"POST", "jobs", job(`{"eval": {"tasks": [{"path": "/nowhere"}]}}`), 400, ""},
		{"POST", "jobs", job(`{"eval": {"base_text": "/nowhere"}}`), 400, "nowhere"},
		{"POST", "jobs", job(`{"chat_template": "klingon"}`), 400, "chat_template"},

		{"POST", "models", "", 400, ""},
		{"POST", "models", `{"path": "/nowhere"}`, 400, "nowhere"},
		{"POST", "models", fmt.Sprintf(`{"path": %q}`, broken), 400, ""},
		{"POST", "models", fmt.Sprintf(`{"path": %q, "name": "../x"}`, filepath.Join(dir, "model")), 400, "--name"},
		{"POST", "datasets", `{"path": "/nowhere"}`, 400, "nowhere"},
		{"POST", "datasets", fmt.Sprintf(`{"path": %q}`, torn), 400, "torn.jsonl:1"},
		{"POST", "datasets", fmt.Sprintf(`{"path": %q, "type": "poem"}`, filepath.Join(dir, "rows.jsonl")), 400, "poem"},
		{"GET", "blocks/x", "", 400, "content identifier"},
		{"GET", "blocks/" + unknown.String(), "", 404, "not on this node"},

		{"POST", "node/pause", `{"for": -1}`, 400, "up to a year"},
		{"POST", "node/pause", `{"for": 1e300}`, 400, "up to a year"},
		{"POST", "node/pause", `{"for": "long"}`, 400, ""},
		{"POST", "node/pause", `{"until": 1}`, 400, "until"},
		{"PATCH", "node/limits", `{"max_up": "fast"}`, 400, "max_up"},
		{"PATCH", "node/limits", `{"max_up": "1kB"}`, 400, "max_up"},
		{"PATCH", "node/limits", `{"max_jobs": "-1"}`, 400, "max_jobs"},
		{"PATCH", "node/limits", `{"schedule": "always"}`, 400, "schedule"},
		{"PATCH", "node/limits", `{"nonsense": "1"}`, 400, "nonsense"},
		{"PATCH", "node/limits", `[]`, 400, ""},

		{"GET", "swarm/members", "", 400, "is open"},
		{"POST", "swarm/invites", "{}", 400, "is open"},
		{"DELETE", "swarm/members/x", "", 400, "is open"},
	})
	if got, err := c.Jobs(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("%d jobs after all, %v", len(got), err)
	}
}

// The same in a private swarm.
func TestBadInputPrivate(t *testing.T) {
	home := t.TempDir()
	if _, err := CreateSwarm(home, "lab", true); err != nil {
		t.Fatal(err)
	}
	n, _, _ := newNode(t, home, newHand(), inLab)
	refuse(t, n, []call{
		{"POST", "swarm/invites", `{"role": "king"}`, 400, "king"},
		{"POST", "swarm/invites", `{"uses": -1}`, 400, "uses"},
		{"POST", "swarm/invites", `{"uses": 100000}`, 400, "uses"},
		{"POST", "swarm/invites", `{"expires": -1}`, 400, "expires"},
		{"POST", "swarm/invites", `{"expires": 1e300}`, 400, "expires"},
		{"POST", "swarm/invites", `{"for": 1}`, 400, "for"},
		{"DELETE", "swarm/members/x", "", 404, "fits 0 members"},
		{"DELETE", "swarm/members/" + string(n.host.ID()), "", 400, "cannot revoke itself"},
	})
}

func refuse(t *testing.T, n *Node, calls []call) {
	t.Helper()
	for _, c := range calls {
		req, err := http.NewRequest(c.method, "http://"+n.listener.Addr().String()+"/api/v1/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		status := resp.StatusCode
		var late struct{ Status int } // beside an error after progress
		if lines := bytes.Split(bytes.TrimSpace(body), []byte("\n")); status == 200 && json.Unmarshal(lines[len(lines)-1], &late) == nil {
			status = late.Status
		}
		var told struct{ Error api.Error }
		lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
		if err := json.Unmarshal(lines[len(lines)-1], &told); err != nil || told.Error.Message == "" || !strings.Contains(told.Error.Message, c.says) {
			t.Errorf("%s %s %.200s: answered %.300s; want a reason with %q", c.method, c.path, c.body, body, c.says)
		}
		if status != c.want {
			t.Errorf("%s %s %.200s: status %d, want %d: %.200s", c.method, c.path, c.body, status, c.want, body)
		}
	}
}
