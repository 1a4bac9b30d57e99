package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// small is a daemon with one job, "run", whose events are given.
type small struct {
	Node
	Library
	events []Event
	wait   bool // after the events the job goes on, silently
}

func (*small) Info(context.Context) (Info, error) { return Info{ID: "me", Peers: 2}, nil }

func (*small) ImportModel(_ context.Context, r ImportRequest, p Progress) (Item, error) {
	p("hash", 1, 2)
	p("hash", 2, 2)
	if r.Name == "bad" {
		return Item{}, BadRequest("no model in %s", r.Path)
	}
	return Item{Name: r.Name}, nil
}

func (s *small) Submit(_ context.Context, spec job.Spec, _ Progress) (Job, error) {
	return Job{ID: "run", Name: spec.Name}, nil
}
func (s *small) Jobs(context.Context) ([]Job, error) { return []Job{{ID: "run"}}, nil }
func (s *small) Cancel(_ context.Context, id string) (Job, error) {
	return s.Job(context.Background(), id)
}
func (s *small) Remove(context.Context, string) (Removed, error) { return Removed{ID: "run"}, nil }
func (s *small) Rounds(context.Context, string) ([]Round, error) {
	return nil, errors.New("disk on fire")
}
func (s *small) Metrics(_ context.Context, _ string, since uint64) ([]trainer.StepReport, error) {
	return []trainer.StepReport{{Step: since + 1}}, nil
}

func (s *small) Job(_ context.Context, id string) (Job, error) {
	if id != "run" {
		return Job{}, NotFound("no job %s", id)
	}
	return Job{ID: "run"}, nil
}

func (s *small) Events(ctx context.Context, _ string, after uint64, fn func(Event) error) error {
	for _, e := range s.events[after:] {
		if err := fn(e); err != nil {
			return err
		}
	}
	if s.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (s *small) Result(_ context.Context, _ string, q ResultRequest, w io.Writer) error {
	if q.As == "gguf" {
		return BadRequest("cannot write gguf")
	}
	io.WriteString(w, "tar")
	if q.As == "torn" {
		return errors.New("disk on fire")
	}
	return nil
}

func serve(t *testing.T, s *small, token string, remote bool) string {
	t.Helper()
	srv := httptest.NewServer((&Server{Node: s, Library: s, Jobs: s, Token: token, Remote: remote}).Handler())
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestClient(t *testing.T) {
	ctx := t.Context()
	c := NewClient(At(serve(t, &small{}, "secret", true), "secret"))
	if v, err := c.Info(ctx); err != nil || v.ID != "me" || v.Peers != 2 {
		t.Errorf("Info = %+v, %v", v, err)
	}
	var told []int64
	v, err := c.ImportModel(ctx, ImportRequest{Path: "/x", Name: "m"}, func(_ string, done, _ int64) { told = append(told, done) })
	if err != nil || v.Name != "m" || len(told) != 2 {
		t.Errorf("ImportModel = %+v, %v, progress %v", v, err, told)
	}
	_, err = c.ImportModel(ctx, ImportRequest{Path: "/x", Name: "bad"}, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 400 || e.Message != "no model in /x" {
		t.Errorf("bad import: %v", err)
	}
	if j, err := c.Submit(ctx, job.Spec{Name: "n"}, nil); err != nil || j.Name != "n" {
		t.Errorf("Submit = %+v, %v", j, err)
	}
	if m, err := c.Metrics(ctx, "run", 6); err != nil || len(m) != 1 || m[0].Step != 7 {
		t.Errorf("Metrics = %+v, %v", m, err)
	}
	if _, err := c.Rounds(ctx, "run"); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("Rounds: %v", err)
	}
	if _, err := c.Job(ctx, "../../node"); err == nil || !strings.Contains(err.Error(), "no job") {
		t.Errorf("odd id: %v", err)
	}
}

// A client sends of a spec what its author wrote, so that a daemon which knows fewer keys takes it.
func TestSubmitSendsWhatWasWritten(t *testing.T) {
	no, zero := false, 0.0
	got, err := sparse(job.Spec{Version: job.Version, BaseModel: "m", Shuffle: &no, MaxGradNorm: &zero, Optimizer: job.Optimizer{Name: "adamw", LR: 1e-3},
		Datasets: []job.Dataset{{Path: "rows"}}})
	want := `{"base_model":"m","datasets":[{"path":"rows"}],"max_grad_norm":0,"optimizer":{"lr":0.001,"name":"adamw"},"seed":0,"shuffle":false,"version":"shoal/v1"}`
	if d := cmp.Diff(want, string(got)); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if _, err := job.Parse(got); err != nil {
		t.Errorf("a daemon reads it: %v", err)
	}
}

func TestResult(t *testing.T) {
	c := NewClient(At(serve(t, &small{}, "", false), ""))
	for as, want := range map[string]string{"lora": "", "gguf": "cannot write gguf", "torn": "EOF"} {
		r, err := c.Result(t.Context(), "run", ResultRequest{As: as})
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", as, err, want)
		}
	}
}

func TestEventsResume(t *testing.T) {
	s := &small{events: []Event{{Seq: 1, Kind: EventNote, Text: "a\nb"}, {Seq: 2, Kind: EventStep, Step: &trainer.StepReport{Step: 1, Loss: 2.5}}, {Seq: 3, Kind: EventBack}}}
	c := NewClient(At(serve(t, s, "", false), ""))
	for after := range uint64(4) {
		var got []Event
		if err := c.Events(t.Context(), "run", after, func(e Event) error { got = append(got, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s.events[after:], got, cmp.Transformer("len", func(e []Event) any { return append([]any{len(e)}, anys(e)...) })); d != "" {
			t.Error(d)
		}
	}
	if err := c.Events(t.Context(), "other", 0, nil); err == nil || errors.Is(err, ErrDown) {
		t.Errorf("unknown job: %v", err)
	}
}

func anys(es []Event) (out []any) {
	for _, e := range es {
		out = append(out, e)
	}
	return out
}

// A daemon that breaks the stream and comes back at another address loses no event and repeats none.
func TestFollowAcrossRestart(t *testing.T) {
	first := &small{events: []Event{{Seq: 1}, {Seq: 2}}, wait: true}
	second := &small{events: []Event{{Seq: 1}, {Seq: 2}, {Seq: 3}}}
	srv := httptest.NewServer((&Server{Node: first, Library: first, Jobs: first}).Handler())
	defer srv.Close()
	var addr atomic.Value
	addr.Store(srv.URL)
	c := NewClient(func() (string, string, error) { return addr.Load().(string), "", nil })
	var seqs []uint64
	lost := 0
	err := c.Follow(t.Context(), "run", 0, time.Minute, func(error) { lost++ }, func(e Event) error {
		if seqs = append(seqs, e.Seq); e.Seq == 2 {
			addr.Store(serve(t, second, "", false))
			go srv.CloseClientConnections()
		}
		return nil
	})
	if err != nil || lost != 1 || !cmp.Equal(seqs, []uint64{1, 2, 3}) {
		t.Errorf("got events %v, lost %d, %v", seqs, lost, err)
	}
}

func TestFollowGivesUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	c := NewClient(At(l.Addr().String(), ""))
	err = c.Follow(t.Context(), "run", 0, 0, func(error) {}, nil)
	if !errors.Is(err, ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
}

func TestGuard(t *testing.T) {
	local, remote := serve(t, &small{}, "secret", false), serve(t, &small{}, "secret", true)
	for name, tc := range map[string]struct {
		addr   string
		host   string
		header map[string]string
		want   int
	}{
		"loopback":             {addr: local, want: 200},
		"localhost":            {addr: local, host: "localhost:99", want: 200},
		"ipv6":                 {addr: local, host: "[::1]:4480", want: 200},
		"rebound name":         {addr: local, host: "evil.example:4480", want: 403},
		"rebound with suffix":  {addr: local, host: "localhost.evil.example", want: 403},
		"own page":             {addr: local, header: map[string]string{"Origin": "http://" + local}, want: 200},
		"foreign page":         {addr: local, header: map[string]string{"Origin": "https://evil.example"}, want: 403},
		"file page":            {addr: local, header: map[string]string{"Origin": "null"}, want: 403},
		"cross-site image":     {addr: local, header: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403},
		"token, foreign page":  {addr: local, header: map[string]string{"Authorization": "Bearer secret", "Origin": "https://evil.example"}, want: 403},
		"remote without token": {addr: remote, want: 401},
		"remote wrong token":   {addr: remote, header: map[string]string{"Authorization": "Bearer secreT"}, want: 401},
		"remote basic":         {addr: remote, header: map[string]string{"Authorization": "Basic secret"}, want: 401},
		"remote token":         {addr: remote, host: "node7.lan", header: map[string]string{"Authorization": "Bearer secret"}, want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+tc.addr+"/api/v1/node", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.host != "" {
				req.Host = tc.host
			}
			for k, v := range tc.header {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.want)
			}
		})
	}
}

func TestHostileBodies(t *testing.T) {
	addr := serve(t, &small{}, "", false)
	for name, tc := range map[string]struct{ path, ctype, body, want string }{
		"form":        {"models", "application/x-www-form-urlencoded", "path=/etc", "Content-Type"},
		"no type":     {"models", "", `{"path":"/x"}`, "Content-Type"},
		"not json":    {"models", "application/json", `{"path"`, "request body"},
		"unknown key": {"models", "application/json", `{"path":"/x","run":"sh"}`, "run"},
		"two values":  {"models", "application/json", `{"path":"/x"}{}`, "more than one"},
		"no path":     {"models", "application/json", `{}`, "path is missing"},
		"huge":        {"jobs", "application/json", `{"name":"` + strings.Repeat("x", MaxBody) + `"}`, "larger than"},
		"deep":        {"models", "application/json", strings.Repeat("[", 500_000), "request body"},
		"wrong type":  {"jobs", "application/json", `{"seed":-1}`, "seed"},
		"no route":    {"nonsense", "application/json", `{}`, "no route"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := http.Post("http://"+addr+"/api/v1/"+tc.path, tc.ctype, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			data, _ := io.ReadAll(resp.Body)
			if !strings.Contains(string(data), `"error":{"message":`) || !strings.Contains(string(data), tc.want) {
				t.Errorf("got %.200s, want an error with %q", data, tc.want)
			}
		})
	}
	for _, q := range []string{"jobs/run/metrics?since=-1", "jobs/run/metrics?since=99999999999999999999", "jobs/run/events?after=x"} {
		resp, err := http.Get("http://" + addr + "/api/v1/" + q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("%s: status %d, want 400", q, resp.StatusCode)
		}
	}
}

// What is wrong with a body is said in the words of JSON.
func TestExplain(t *testing.T) {
	for body, want := range map[string]string{
		`{"for":"x"}`: `"for": want a number, not string`, `[1]`: "the value: want an object, not array", ``: "it is empty",
		`{"fro":1}`: `unknown field "fro"`, `{`: "unexpected EOF",
	} {
		var v PauseRequest
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		if got := explain(d.Decode(&v)); !strings.HasPrefix(got, want) || strings.Contains(got, "Go ") {
			t.Errorf("%s: %s; want %s", body, got, want)
		}
	}
}
