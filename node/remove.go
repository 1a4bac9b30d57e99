package node

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
)

// removedKey marks a job that its submitter removed: other nodes may offer it for a while, and it must not come back.
func removedKey(id cid.Cid) string { return "removed/" + id.String() }

// removed is the mark.
type removed struct {
	At time.Time `json:"at"`
}

// Remove implements api.Jobs.
func (s jobAPI) Remove(ctx context.Context, id string) (api.Removed, error) {
	e, err := s.find(id)
	if err != nil {
		return api.Removed{}, err
	}
	if err := s.forget(e, id); err != nil {
		return api.Removed{}, err
	}
	out := api.Removed{ID: e.task.ID.String(), Name: e.task.Spec.Name}
	area := s.n.store.KV(jobPin(e.task.ID)).Batch() // of the runtime
	area.DeleteRange(nil, []byte{0xff})
	if err := errors.Join(s.n.unpin(ctx, jobPin(e.task.ID)), area.Commit()); err != nil {
		return out, err
	}
	if _, running := s.paused(); running > 0 {
		out.Later = true // see collect
		return out, nil
	}
	freed, err := s.n.store.GC(ctx)
	out.Freed = freed.Bytes
	return out, err
}

// forget takes an own job that is over out of the table, with its journal.
func (js *jobs) forget(e *entry, id string) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	switch {
	case !e.task.Mine:
		return api.BadRequest("job %s was submitted by %s; this node lets go of it by itself, two days after its end", id, e.task.Terms.Submitter)
	case !api.Final(e.state) || e.stop != nil:
		return api.Conflict("job %s is %s; end it first with \"shoal job cancel %s\"", id, e.state, id)
	}
	prefix := e.journal.prefix
	err := js.t.write(drop(jobKey(e.task.ID)), dropRange(prefix, after(prefix)), put(removedKey(e.task.ID), removed{time.Now()}))
	if err == nil {
		delete(js.table, e.task.ID)
	}
	return err
}
