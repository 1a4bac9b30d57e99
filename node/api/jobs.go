package api

import (
	"io"
	"net/http"
	"strconv"

	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

func (s *Server) jobRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/jobs", answer(func(r *http.Request) ([]Job, error) { return s.Jobs.Jobs(r.Context()) }))
	mux.Handle("POST /api/v1/jobs", long(s.submit))
	mux.Handle("GET /api/v1/jobs/{id}", answer(func(r *http.Request) (Job, error) {
		return s.Jobs.Job(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("DELETE /api/v1/jobs/{id}", answer(func(r *http.Request) (Removed, error) {
		return s.Jobs.Remove(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /api/v1/jobs/{id}/cancel", answer(func(r *http.Request) (Job, error) {
		return s.Jobs.Cancel(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("GET /api/v1/jobs/{id}/rounds", answer(func(r *http.Request) ([]Round, error) {
		return s.Jobs.Rounds(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("GET /api/v1/jobs/{id}/metrics", answer(s.metrics))
	mux.HandleFunc("GET /api/v1/jobs/{id}/events", s.events)
	mux.HandleFunc("GET /api/v1/jobs/{id}/result", s.result)
}

func (s *Server) submit(r *http.Request, p Progress) (Job, error) {
	if err := wantJSON(r); err != nil {
		return Job{}, err
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return Job{}, err
	}
	spec, err := job.Parse(text)
	if err != nil {
		return Job{}, BadRequest("%v", err)
	}
	return s.Jobs.Submit(r.Context(), spec, p)
}

func (s *Server) metrics(r *http.Request) ([]trainer.StepReport, error) {
	since, err := number(r.URL.Query().Get("since"), "since")
	if err != nil {
		return nil, err
	}
	return s.Jobs.Metrics(r.Context(), r.PathValue("id"), since)
}

// result streams a tar archive. An error after the first byte can only cut the connection, which the client notices
// because the archive lacks its end.
func (s *Server) result(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	partial, err := boolean(q.Get("partial"), "partial")
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	out := &counting{w: w}
	err = s.Jobs.Result(r.Context(), r.PathValue("id"), ResultRequest{As: q.Get("as"), Partial: partial}, out)
	switch {
	case err != nil && out.n == 0:
		writeError(w, err)
	case err != nil:
		panic(http.ErrAbortHandler)
	}
}

type counting struct {
	w http.ResponseWriter
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// number reads an optional query value; empty is 0.
func number(s, name string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, BadRequest("%s: %q is not a number", name, s)
	}
	return n, nil
}

// boolean reads an optional query value; empty is false.
func boolean(s, name string) (bool, error) {
	switch s {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, BadRequest("%s: %q is neither true nor false", name, s)
}
