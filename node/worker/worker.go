// Package worker runs jobs on this node, as node/task's Runtime: it gives a job's coordination (node/coord) a clock
// and a network, its trainer data and a device, and its replica group (p2p/collective) the vectors; it moves state
// between members and into checkpoints. It decides nothing: what to do comes out of the coord.Machine, how to learn is
// the trainer's.
//
// Four goroutines belong to a running job. The loop (loop.go) owns the coord.Machine and performs its effects without
// waiting. The trainer (train.go) runs rounds and blocks in the calls of rounds.go. The collective's group owns its own
// machine. State is fetched and written beside them (state.go, exchange.go). Everything ends when the job's context
// does, and Run waits for it.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/blocks"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/shard/scratch"
	"github.com/seed-7b27c88a/shoal/shard/store"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// Deps is what jobs need of their node.
type Deps struct {
	Host    *p2p.Host
	Blocks  *blocks.Exchange
	Groups  *collective.Exchange
	Vectors *Vectors
	Pipes   *pipe.Exchange
	Store   *store.Store
	Device  kernels.Device
	Scratch string // directory for what is as large as a model and need not be in memory; "": memory
	Log     *slog.Logger
}

// Runtime runs jobs.
type Runtime struct {
	deps   Deps
	closed chan struct{}

	unmeasured bool // for tests: rates of links are left out, since a busy machine looks like slow ones

	mu      sync.Mutex // guards running
	running map[cid.Cid]*Job
	gone    sync.WaitGroup // jobs that run or linger
}

// New returns the runtime of a node.
func New(d Deps) *Runtime {
	return &Runtime{deps: d, closed: make(chan struct{}), running: map[cid.Cid]*Job{}}
}

// Close ends what is left of jobs that are over. Call it once, when no Run goes on.
func (r *Runtime) Close() {
	close(r.closed)
	r.gone.Wait()
}

var _ task.Runtime = (*Runtime)(nil)

// Job is this node's part in one job.
type Job struct {
	Deps
	runtime *Runtime
	task    task.Task
	log     *slog.Logger
	report  func(task.Event)

	ctx      context.Context // ends with the job
	stop     context.CancelFunc
	loops    sync.WaitGroup // the coordination's loop
	work     sync.WaitGroup // the trainer, and what moves state
	events   chan coord.Event
	calls    chan func(*coord.Machine)
	over     chan task.Ended // the coordination's last word
	hindered chan error      // why this node leaves for now
	lingers  bool            // it is over, and goes on telling that; the runtime's mu guards it
	hush     sync.Once       // closes hushed, which ends that
	hushed   chan struct{}
	gone     chan struct{} // closed when nothing of the job is left

	area    *store.KV                     // what the job keeps on disk besides blocks
	logged  uint64                        // entries of the stored log; belongs to the loop
	keeps   map[uint64]context.CancelFunc // settled checkpoints being fetched, by round; belongs to the loop
	group   *collective.Group
	rounds  *rounds
	trainer *trainer.Trainer
	scratch *scratch.Dir    // nil: memory
	measure trainer.Measure // what is looked at here; empty: another node does
	watch   watch           // of what was measured
	best    best            // of that, as the submitter told
	state   *stateKeeper
	telling sync.Mutex // held while steps are reported, so that they come in order
	pace    pace
	link    link
	asks    asks[stateAnswer]
	parts   parts
	moments *moments      // where owners step
	flow    *flow         // a pipeline; nil: the trainer computes the whole model
	lending chan struct{} // a token for each request for optimizer state that is served
	donated []donation    // newest last; belongs to the handler of requests for state
}

// Run takes part in a job until it is over here or ctx ends, which asks for a clean leave.
func (r *Runtime) Run(ctx context.Context, t task.Task, report func(task.Event)) error {
	j := &Job{
		Deps: r.deps, runtime: r, task: t, report: report,
		log:      r.deps.Log.With("job", t.Spec.Name),
		events:   make(chan coord.Event, 64),
		calls:    make(chan func(*coord.Machine)),
		hushed:   make(chan struct{}),
		gone:     make(chan struct{}),
		over:     make(chan task.Ended, 1),
		hindered: make(chan error, 1),
		keeps:    map[uint64]context.CancelFunc{},
		area:     r.deps.Store.KV(areaPrefix + t.ID.String()),
		lending:  make(chan struct{}, maxLending),
	}
	if s, ok := j.Device.(interface{ Pick() kernels.Device }); ok { // a node with several GPUs
		j.Device = s.Pick()
	}
	// The job outlives ctx by the time that a clean leave takes, and lingers after its end.
	j.ctx, j.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.enter(ctx, j); err != nil {
		return err
	}
	lingers, err := j.run(ctx)
	if !lingers {
		j.stop()
		r.leave(j)
	}
	return err
}

// enter makes j the one that runs. One that was over, and only told others so, ends first: the job goes on.
func (r *Runtime) enter(ctx context.Context, j *Job) error {
	for {
		old, lingers := r.take(j)
		switch {
		case old == nil:
			return nil
		case !lingers:
			return fmt.Errorf("job %s runs here already", j.task.ID)
		}
		old.hush.Do(func() { close(old.hushed) })
		select {
		case <-old.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take enters j unless another is there, which it returns.
func (r *Runtime) take(j *Job) (old *Job, lingers bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old = r.running[j.task.ID]; old != nil {
		return old, old.lingers
	}
	r.running[j.task.ID] = j
	r.gone.Add(1)
	return nil, false
}

func (r *Runtime) leave(j *Job) {
	j.closeScratch()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, j.task.ID)
	r.gone.Done()
	close(j.gone)
}

// Cancel publishes the submitter's word that the job ends.
func (r *Runtime) Cancel(ctx context.Context, id cid.Cid) error {
	r.mu.Lock()
	j := r.running[id]
	r.mu.Unlock()
	if j == nil {
		return errors.New("the job does not run on this node")
	}
	j.post(coord.CancelJob{Why: "cancelled by the submitter"})
	return nil
}
