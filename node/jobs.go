package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// retryFull is how long a job rests after the disk was full.
const retryFull = 30 * time.Second

// keepForeign is how long the blocks of a job of others stay after its end: members that were away fetch its last
// checkpoint from whoever still has it.
const keepForeign = 48 * time.Hour

// maxForeign bounds the jobs of others in the table; the oldest that are over make room.
const maxForeign = 1000

// jobs is the table of jobs: what was submitted here and what others offered and this node accepted. Every job is in
// the store before it runs, and jobs that were not over run again after a restart. It implements api.Jobs but for
// Submit, and is safe for concurrent use.
type jobs struct {
	t       *table
	log     *slog.Logger
	runtime task.Runtime
	policy  policy
	tmp     string                // directory for exports on their way out
	idle    func(context.Context) // told when the last running job ended
	sign    func(t task.Task, order uint64) (*record.Signed, error)

	ctx context.Context // ends when the node stops; what runs then leaves cleanly. Set by load
	wg  sync.WaitGroup  // running jobs

	mu    sync.Mutex // guards the rest and every entry's mutable fields
	table map[cid.Cid]*entry
	ready bool   // resume was called
	held  string // why nothing may run now; empty: it may
}

// entry is one job in the table.
type entry struct {
	task    task.Task
	journal *journal
	created time.Time
	base    string // the model as the submitter typed it, for exports; empty: not submitted here

	state, why  string
	settled     uint64
	order       task.Order     // the newest
	ordered     *record.Signed // by the submitter
	ended       time.Time
	bits        string             // hash of weights and moments as of the last step seen here
	stop        context.CancelFunc // while it runs
	interrupted bool               // it was stopped to be held, and runs again later
	again       bool               // it is over, and goes on by an order when its run has returned
}

// stored is an entry as it lies in the table.
type stored struct {
	Version int            `json:"version"`
	Signed  *record.Signed `json:"signed"`
	Mine    bool           `json:"mine"`
	State   string         `json:"state"`
	Why     string         `json:"why,omitempty"`
	Settled uint64         `json:"settled,omitempty"`
	Created time.Time      `json:"created"`
	Ended   time.Time      `json:"ended,omitzero"`
	Base    string         `json:"base,omitempty"`
	Order   task.Order     `json:"order,omitzero"`
	Ordered *record.Signed `json:"ordered,omitempty"`
}

func jobKey(id cid.Cid) string { return "jobs/" + id.String() }

// load reads the table; nothing runs before resume.
func (js *jobs) load(ctx context.Context) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.ctx, js.table = ctx, map[cid.Cid]*entry{}
	rows, err := scan[stored](js.t, "jobs/", "", maxForeign*2)
	if err != nil {
		return err
	}
	for _, s := range rows {
		if err := js.revive(s); err != nil {
			return fmt.Errorf("job table: %w", err)
		}
	}
	return nil
}

// resume frees what earlier jobs left, while nothing runs, and starts what was not over.
func (js *jobs) resume(free func(context.Context)) {
	free(js.ctx)
	js.mu.Lock()
	defer js.mu.Unlock()
	js.ready = true
	js.schedule()
}

// forgotten lists jobs of others that were over for so long that nobody comes back for their blocks.
func (js *jobs) forgotten(now time.Time) []task.Task {
	js.mu.Lock()
	defer js.mu.Unlock()
	var out []task.Task
	for _, e := range js.table {
		if !e.task.Mine && api.Final(e.state) && now.Sub(e.ended) > keepForeign {
			out = append(out, e.task)
		}
	}
	return out
}

func (js *jobs) revive(s stored) error {
	if s.Signed == nil {
		return errors.New("an entry without its record")
	}
	t, err := task.Open(s.Signed)
	if err != nil {
		return err
	}
	t.Mine = s.Mine
	j, err := openJournal(js.t, t.ID.String())
	if err != nil {
		return err
	}
	e := &entry{task: t, journal: j, created: s.Created, base: s.Base, state: s.State, why: s.Why, settled: s.Settled, ended: s.Ended, order: s.Order, ordered: s.Ordered}
	if api.Final(e.state) {
		j.over = true
	} else {
		e.state, e.why = api.Waiting, ""
	}
	js.table[t.ID] = e
	return nil
}

// admit takes a task into the table and starts it when there is room. One that is there already is left alone.
func (js *jobs) admit(t task.Task, base string) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	if e, ok := js.table[t.ID]; ok {
		return js.heed(e, t)
	}
	if gone, err := js.t.get(removedKey(t.ID), new(removed)); err != nil || gone {
		return err
	}
	if err := js.policy.accepts(t); err != nil {
		return err
	}
	if err := js.makeRoom(); err != nil {
		return err
	}
	j, err := openJournal(js.t, t.ID.String())
	if err != nil {
		return err
	}
	e := &entry{task: t, journal: j, created: time.Now(), base: base, state: api.Waiting, order: t.Order, ordered: t.Ordered}
	if err := js.save(e); err != nil {
		return err
	}
	js.table[t.ID] = e
	js.schedule()
	return nil
}

// makeRoom forgets the oldest foreign job that is over when there are too many. The caller holds mu.
func (js *jobs) makeRoom() error {
	var oldest *entry
	foreign := 0
	for _, e := range js.table {
		if e.task.Mine {
			continue
		}
		foreign++
		if api.Final(e.state) && (oldest == nil || e.created.Before(oldest.created)) {
			oldest = e
		}
	}
	if foreign < maxForeign {
		return nil
	}
	if oldest == nil {
		return errors.New("too many jobs of others at once")
	}
	delete(js.table, oldest.task.ID)
	prefix := oldest.journal.prefix
	return js.t.write(drop(jobKey(oldest.task.ID)), dropRange(prefix, after(prefix)))
}

// schedule starts waiting jobs, own ones always, others while there is room, oldest first. The caller holds mu.
func (js *jobs) schedule() {
	if js.ctx == nil || js.ctx.Err() != nil || !js.ready || js.held != "" {
		return
	}
	running := 0 // of others
	var waiting []*entry
	for _, e := range js.table {
		switch {
		case e.stop != nil && !e.task.Mine:
			running++
		case e.stop == nil && e.state == api.Waiting && e.why == "":
			waiting = append(waiting, e)
		}
	}
	slices.SortFunc(waiting, func(a, b *entry) int { return a.created.Compare(b.created) })
	for _, e := range waiting {
		if e.task.Mine || running < js.policy.maxJobs {
			if !e.task.Mine {
				running++
			}
			js.start(e)
		}
	}
}

// start runs e until it is over. The caller holds mu.
func (js *jobs) start(e *entry) {
	ctx, stop := context.WithCancel(js.ctx)
	e.stop = stop
	js.become(e, api.Running, "")
	t := e.current()
	js.wg.Go(func() {
		defer stop()
		err := js.runtime.Run(ctx, t, func(ev task.Event) { js.report(e, ev) })
		js.finish(e, err)
	})
}

// finish settles what a runtime left behind and lets the next job start.
func (js *jobs) finish(e *entry, err error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	defer func() { e.interrupted, e.again = false, false }()
	e.stop = nil
	switch {
	case js.ctx.Err() != nil: // the node stops: the job runs again when it is back
		return
	case e.again:
		js.become(e, api.Waiting, "")
	case api.Final(e.state):
	case js.held != "" || e.interrupted:
		js.become(e, api.Waiting, "")
	case errors.Is(err, shard.ErrFull):
		js.become(e, api.Waiting, "the disk or the node's quota is full; free some space or raise max_disk")
		time.AfterFunc(retryFull, func() { js.retry(e) })
	case err != nil:
		js.become(e, api.Failed, err.Error())
	default:
		js.become(e, api.Left, "")
	}
	js.schedule()
	if !js.busy() {
		js.wg.Go(func() { js.idle(js.ctx) })
	}
}

// hold stops what runs, and lets nothing start, while why is not empty.
func (js *jobs) hold(why string) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.held == why {
		return
	}
	js.log.Info("work", "paused", why)
	js.held = why
	if why == "" {
		js.schedule()
		return
	}
	for _, e := range js.table {
		if e.stop != nil {
			e.interrupted = true
			e.stop()
		}
	}
}

// allow changes which jobs of others are taken; those that run go on.
func (js *jobs) allow(p policy) {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.policy = p
	js.schedule()
}

// busy tells that a job runs. The caller holds mu.
func (js *jobs) busy() bool {
	for _, e := range js.table {
		if e.stop != nil {
			return true
		}
	}
	return false
}

func (js *jobs) retry(e *entry) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if e.state == api.Waiting {
		e.why = ""
		js.schedule()
	}
}

// report takes what a runtime tells of e.
func (js *jobs) report(e *entry, ev task.Event) {
	var err error
	switch ev := ev.(type) {
	case task.Stepped:
		ev.Time = time.Since(e.created).Seconds() // one clock for the whole job, over restarts
		js.mu.Lock()
		e.bits = ev.State
		js.mu.Unlock()
		err = e.journal.step(ev.StepReport)
	case task.Back:
		err = e.journal.back(ev.Step)
	case task.Evaluated:
		err = e.journal.eval(ev.EvalReport)
	case task.Note:
		err = e.journal.note(ev.Text)
	case task.Round:
		err = e.journal.round(ev.RoundReport)
	case task.Settled:
		js.mu.Lock()
		e.settled = ev.Step
		err = js.save(e)
		js.mu.Unlock()
	case task.Ordered:
		if e.task.Mine {
			err = js.note(e, task.Order{Number: ev.Number})
		}
	case task.Ended:
		js.mu.Lock()
		js.become(e, ev.State, ev.Why)
		js.mu.Unlock()
	}
	if err != nil {
		js.log.Error("job log", "job", e.task.ID, "err", err)
	}
}

// become changes e's state, on disk first. The caller holds mu.
func (js *jobs) become(e *entry, state, why string) {
	if e.state == state && e.why == why {
		return
	}
	e.state, e.why = state, why
	if api.Final(state) {
		e.ended = time.Now()
	}
	if err := errors.Join(js.save(e), e.journal.state(state, why)); err != nil {
		js.log.Error("job table", "job", e.task.ID, "err", err)
	}
	js.log.Info("job", "job", e.task.ID, "name", e.task.Spec.Name, "state", state, "why", why)
}

func (js *jobs) save(e *entry) error {
	return js.t.write(put(jobKey(e.task.ID), stored{1, e.task.Signed, e.task.Mine, e.state, e.why, e.settled, e.created, e.ended, e.base, e.order, e.ordered}))
}

// wait returns when everything that ran has left, or ctx ends.
func (js *jobs) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { js.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("jobs did not leave in time")
	}
}

// active lists the tasks that are not over, for offers.
func (js *jobs) active() []task.Task {
	js.mu.Lock()
	defer js.mu.Unlock()
	var out []task.Task
	for _, e := range js.table {
		if !api.Final(e.state) {
			out = append(out, e.current())
		}
	}
	slices.SortFunc(out, func(a, b task.Task) int { return cmp.Compare(a.ID.KeyString(), b.ID.KeyString()) })
	return out
}

// paused says why the node takes no work, and how many jobs run.
func (js *jobs) paused() (why string, running int) {
	js.mu.Lock()
	defer js.mu.Unlock()
	defer func() {
		if js.held != "" {
			why = js.held
		}
	}()
	for _, e := range js.table {
		if e.stop != nil {
			running++
		} else if e.state == api.Waiting && e.why != "" {
			why = e.why
		}
	}
	return why, running
}
