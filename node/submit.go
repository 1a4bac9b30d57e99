package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// jobAPI is the table of jobs with the one thing that the table cannot do: turn a spec into a task. It implements
// api.Jobs.
type jobAPI struct {
	*jobs
	n *Node
}

// Submit implements api.Jobs: model, adapter and rows become blocks, the terms are signed, stored and offered.
func (s jobAPI) Submit(ctx context.Context, spec job.Spec, p api.Progress) (api.Job, error) {
	if err := spec.Validate(); err != nil {
		return api.Job{}, api.BadRequest("%v", err)
	}
	if err := s.n.maySubmit(s.n.host.ID(), nil); err != nil {
		return api.Job{}, api.BadRequest("%v", err)
	}
	pin := fmt.Sprintf(submitPins+"%016x", rand.Uint64())
	defer s.n.store.Unpin(context.WithoutCancel(ctx), pin)
	put := s.n.store.Under(pin)
	typed := spec.BaseModel
	terms, err := s.n.terms(ctx, spec, put, p)
	if err != nil {
		return api.Job{}, err
	}
	t, err := task.Sign(terms, s.n.host.Boot(), s.n.host.Key())
	if err != nil {
		return api.Job{}, err
	}
	if err := s.n.store.Pin(ctx, jobPin(t.ID), roots(t.Terms)...); err != nil {
		return api.Job{}, err
	}
	if err := s.admit(t, typed); err != nil {
		return api.Job{}, errors.Join(err, s.n.store.Unpin(ctx, jobPin(t.ID)))
	}
	s.n.offers.publish(ctx, t)
	return s.Job(ctx, t.ID.String())
}

// asked marks errors about what a request names (a model, rows, an adapter) as the caller's. What cannot be read or used is
// the caller's to mend; what the store cannot do is not.
func asked(err error) error {
	_, told := errors.AsType[*api.Error](err)
	switch {
	case err == nil || told || errors.Is(err, context.Canceled) || errors.Is(err, shard.ErrCorrupt):
		return err
	case errors.Is(err, shard.ErrFull):
		return &api.Error{Status: http.StatusInsufficientStorage, Message: err.Error() + "; free some space or raise max_disk"}
	}
	return api.BadRequest("%v", err)
}

func jobPin(id cid.Cid) string { return "job/" + id.String() }

// roots are the manifests that a job stands on.
func roots(t task.Terms) []cid.Cid {
	out := []cid.Cid{t.Model, t.Data}
	for _, c := range []cid.Cid{t.Adapter, t.Held, t.Exam} {
		if c.Defined() {
			out = append(out, c)
		}
	}
	return out
}

// terms stores what spec names and says so in CIDs.
func (n *Node) terms(ctx context.Context, spec job.Spec, put shard.Putter, p api.Progress) (t task.Terms, err error) {
	t = task.Terms{Submitter: n.host.ID(), Nonce: rand.Uint64()}
	src := n.lib.Sources()
	p("read the model", 0, 0)
	in, err := src.Inputs(ctx, &spec, put, prepare.Progress(p))
	if err != nil {
		return t, asked(err)
	}
	p("store the model", 0, 0)
	if _, t.Model, err = in.Model.Store(ctx, shard.KindModel, put); err != nil {
		return t, asked(err)
	}
	if in.Adapter != nil {
		if _, t.Adapter, err = in.Adapter.Store(ctx, shard.KindAdapter, put); err != nil {
			return t, err
		}
	}
	if t.Data, err = shard.SaveManifest(ctx, put, &in.Built.Train); err != nil {
		return t, err
	}
	if in.Built.Stats.Held > 0 {
		if t.Held, err = shard.SaveManifest(ctx, put, &in.Built.Val); err != nil {
			return t, err
		}
	}
	if !in.Exam.Empty() {
		if t.Exam, err = prepare.StoreExam(ctx, put, in.Exam, spec.Name); err != nil {
			return t, err
		}
	}
	t.Rows, t.Params, t.MemBytes = uint64(in.Built.Stats.Rows), in.Params, in.MemBytes
	hidePaths(&spec)
	spec.Submitted()
	t.Spec, err = spec.Canonical()
	return t, err
}

// hidePaths leaves of each local path its last element: the terms name everything by CID, and others need not know how
// this machine's directories are called.
func hidePaths(spec *job.Spec) {
	hide := func(s string) string {
		if strings.HasPrefix(s, "hf:") || s == "" {
			return s
		}
		return filepath.Base(s)
	}
	spec.BaseModel, spec.LoraModelDir = hide(spec.BaseModel), hide(spec.LoraModelDir)
	for i := range spec.Datasets {
		spec.Datasets[i].Path = hide(spec.Datasets[i].Path)
	}
	spec.Eval.BaseText = hide(spec.Eval.BaseText)
	spec.Eval.Tasks = slices.Clone(spec.Eval.Tasks) // the caller's are not ours
	for i := range spec.Eval.Tasks {
		spec.Eval.Tasks[i].Path = hide(spec.Eval.Tasks[i].Path)
	}
}
