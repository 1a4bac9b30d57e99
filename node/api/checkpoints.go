package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// Checkpoint is one that a job can go back to. In diloco Step is the number of steps of all members, as it is in Job, and Round
// that of the job's rounds.
type Checkpoint struct {
	task.Checkpoint
	Round uint64 `json:"round,omitempty"` // 0: it is Step
}

// Checkpoints shows what a job could go back to, and sends one back that was submitted here.
type Checkpoints interface {
	Checkpoints(ctx context.Context, id string) ([]Checkpoint, error)
	// Resume lets a job go on that ended before its last step; Rollback lets any go on from the checkpoint of a step.
	Resume(ctx context.Context, id string) (Job, error)
	Rollback(ctx context.Context, id string, step uint64) (Job, error)
}

// RollbackRequest says where to; step 0 is the beginning.
type RollbackRequest struct {
	Step *uint64 `json:"step"`
}

func (s *Server) checkpointRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/jobs/{id}/checkpoints", answer(func(r *http.Request) ([]Checkpoint, error) {
		return s.Checkpoints.Checkpoints(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /api/v1/jobs/{id}/resume", answer(func(r *http.Request) (Job, error) {
		return s.Checkpoints.Resume(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /api/v1/jobs/{id}/rollback", answer(func(r *http.Request) (Job, error) {
		var v RollbackRequest
		if err := readBody(r, &v); err != nil {
			return Job{}, err
		}
		if v.Step == nil {
			return Job{}, BadRequest("step is missing: the checkpoint to go back to")
		}
		return s.Checkpoints.Rollback(r.Context(), r.PathValue("id"), *v.Step)
	}))
}

// Checkpoints lists what a job could go back to, by step.
func (c *Client) Checkpoints(ctx context.Context, id string) (v []Checkpoint, err error) {
	return v, c.get(ctx, "jobs/"+url.PathEscape(id)+"/checkpoints", &v)
}

// ResumeJob lets a job go on that ended before its last step.
func (c *Client) ResumeJob(ctx context.Context, id string) (v Job, err error) {
	return v, c.call(ctx, http.MethodPost, "jobs/"+url.PathEscape(id)+"/resume", nil, &v)
}

// Rollback lets a job go on from the checkpoint of a step.
func (c *Client) Rollback(ctx context.Context, id string, step uint64) (v Job, err error) {
	return v, c.call(ctx, http.MethodPost, "jobs/"+url.PathEscape(id)+"/rollback", RollbackRequest{&step}, &v)
}
