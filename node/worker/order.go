package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// known is a checkpoint that this node knows of.
type known struct {
	task.Checkpoint
	manifest cid.Cid
	entry    *coord.SettleEntry // nil: the log does not name it
}

// Checkpoints lists what a job could go back to, by step.
func (r *Runtime) Checkpoints(ctx context.Context, t task.Task) ([]task.Checkpoint, error) {
	j := &Job{Deps: r.deps, runtime: r, task: t, log: r.deps.Log, ctx: ctx}
	list, err := j.checkpoints(ctx)
	out := make([]task.Checkpoint, len(list))
	for i, k := range list {
		out[i] = k.Checkpoint
	}
	return out, err
}

// checkpoints are those that the saved log names and those that are pinned here.
func (j *Job) checkpoints(ctx context.Context) (list []known, err error) {
	spine, err := readSpine(j.Store.KV(areaPrefix + j.task.ID.String()))
	if err != nil {
		return nil, err
	}
	for _, s := range coord.Settled(coord.Keys{}, spine) {
		list = append(list, known{
			Checkpoint: task.Checkpoint{Step: s.Round, Settled: true, Holders: s.Holders}, manifest: s.Manifest, entry: &s,
		})
	}
	for _, kind := range []string{pinCheckpoint, pinBest} {
		if list, err = j.addPinned(ctx, list, kind); err != nil {
			return nil, err
		}
	}
	if list, err = j.addBest(list); err != nil {
		return nil, err
	}
	for i := range list {
		k := &list[i]
		k.Manifest = k.manifest.String()
		if m, err := shard.LoadManifest(ctx, j.Store, k.manifest); err == nil {
			k.Here = true
			for _, f := range m.Files {
				k.Bytes += int64(f.Size)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b known) int { return int(a.Step) - int(b.Step) })
	return list, nil
}

func (j *Job) addPinned(ctx context.Context, list []known, kind string) ([]known, error) {
	prefix := j.pinName(kind)
	pins, err := j.Store.Pins(ctx, prefix)
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		step, err := strconv.ParseUint(strings.TrimPrefix(p.Name, prefix), 10, 63)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(list, func(k known) bool { return k.manifest == p.Root })
		if i < 0 {
			i = len(list)
			list = append(list, known{Checkpoint: task.Checkpoint{Step: step, Holders: []record.PeerID{}}, manifest: p.Root})
		}
		list[i].Best = list[i].Best || kind == pinBest
	}
	return list, nil
}

// addBest marks the checkpoint that the submitter's word names, and no other.
func (j *Job) addBest(list []known) ([]known, error) {
	w, _, err := j.storedBest()
	if err != nil || w.Number == 0 {
		return list, err
	}
	found := false
	for i := range list {
		list[i].Best = list[i].manifest == w.Manifest
		found = found || list[i].Best
	}
	if !found {
		list = append(list, known{
			Checkpoint: task.Checkpoint{Step: w.Step, Best: true, Holders: []record.PeerID{j.task.Terms.Submitter}}, manifest: w.Manifest,
		})
	}
	return list, nil
}

// GoBack carries out a person's order on a job that runs here.
func (r *Runtime) GoBack(ctx context.Context, id cid.Cid, step uint64) (o task.Order, err error) {
	r.mu.Lock()
	j := r.running[id]
	over := j == nil || j.lingers
	r.mu.Unlock()
	if over {
		return o, errors.New("the job does not run on this node")
	}
	return o, j.call(ctx, func(m *coord.Machine) error {
		o = task.Order{Number: m.Status().Order + 1, Step: step}
		return j.carryOut(m, o)
	})
}

// call has the loop do f, and returns what came of it.
func (j *Job) call(ctx context.Context, f func(*coord.Machine) error) error {
	done := make(chan error, 1)
	select {
	case j.calls <- func(m *coord.Machine) { done <- f(m) }:
		return <-done
	case <-j.ctx.Done():
		return errors.New("the job has just ended on this node")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// obey carries out, at the submitter, an order that the log does not have yet, and tells the table of one that it does not
// know. The loop calls it before anything else.
func (j *Job) obey(m *coord.Machine) {
	o, have := j.task.Order, m.Status().Order
	switch {
	case have > o.Number:
		j.report(task.Ordered{Number: have})
	case have < o.Number && j.task.Mine:
		if err := j.carryOut(m, o); err != nil {
			j.fail(err.Error())
		}
	}
}

// carryOut makes the job go on from the checkpoint that an order names.
func (j *Job) carryOut(m *coord.Machine, o task.Order) error {
	to, err := j.checkpointAt(m, o.Step)
	if err != nil {
		return err
	}
	j.perform(m.Step(coord.GoBack{To: to, Order: o.Number}))
	if m.Status().Order < o.Number {
		return errors.New("this node is leaving the job; try again when it is back")
	}
	return nil
}

// checkpointAt is the checkpoint of a step as the log names it, or as it lies here.
func (j *Job) checkpointAt(m *coord.Machine, step uint64) (e coord.SettleEntry, err error) {
	if step == 0 {
		return e, nil
	}
	for _, s := range m.Settled() {
		if s.Round == step {
			return s, nil
		}
	}
	list, err := j.checkpoints(j.ctx)
	if err != nil {
		return e, err
	}
	for _, k := range list {
		if k.Step != step || !k.Here {
			continue
		}
		if k.entry != nil {
			return *k.entry, nil
		}
		return j.describe(k)
	}
	return e, fmt.Errorf("no checkpoint of step %d is known here", step)
}

// describe makes the entry of a checkpoint that lies here alone.
func (j *Job) describe(k known) (e coord.SettleEntry, err error) {
	m, err := shard.LoadManifest(j.ctx, j.reader(), k.manifest)
	if err != nil {
		return e, err
	}
	e = coord.SettleEntry{Manifest: k.manifest, Holders: []record.PeerID{j.Host.ID()}}
	if e.Round, e.Commit, err = checkpointOf(m, j.task.ID); err != nil {
		return e, err
	}
	h, err := loadHistory(j.ctx, j.reader(), j.task.ID, k.manifest)
	for _, r := range h {
		e.Tokens += r.Tokens
	}
	return e, err
}

// linger notes that j is over and only tells others so.
func (r *Runtime) linger(j *Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.lingers = true
}
