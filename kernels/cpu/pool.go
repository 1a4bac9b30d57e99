package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pool spreads the tasks of an op over workers. The caller of each is worker 0; the others are goroutines that wait
// for work until close. Tasks are taken from a counter, so a slow worker holds up nobody but itself; which worker
// runs a task never changes a result.
//
// One goroutine at a time may call (the device's lock sees to it).
type pool struct {
	fam    *family
	mem    *memory
	work   []*worker
	kept   keep      // packed frozen weights
	shared []float32 // logits of a chunk, made and read by all workers

	// The job: what comes before next is written before it, which hands the job over; a worker that comes late finds
	// next below zero or takes a task of the job after, and both are right.
	task func(w *worker, i int)
	n    int           // tasks, taken in rising order
	next atomic.Int64  // how many nobody has taken
	left atomic.Int64  // tasks that have not ended
	done chan struct{} // one token when the last task has ended

	quit chan struct{} // closed by close
	wg   sync.WaitGroup
}

// spin is how long a worker looks for the next job before it sleeps. Ops follow each other within microseconds and
// waking takes about ten; longer, and several daemons on one machine would steal each other's time.
const spin = 20 * time.Microsecond

// newPool starts the workers.
func newPool(fam *family, mem *memory) *pool {
	p := &pool{fam: fam, mem: mem, done: make(chan struct{}, 1), quit: make(chan struct{})}
	p.work = []*worker{newWorker(fam, mem)}
	p.follow()
	return p
}

// follow takes over a GOMAXPROCS that grew. Workers beyond one that shrank are left asleep.
func (p *pool) follow() {
	for n := runtime.GOMAXPROCS(0); len(p.work) < n; {
		w := newWorker(p.fam, p.mem)
		p.work = append(p.work, w)
		p.wg.Go(func() { p.serve(w) })
	}
}

func (p *pool) workers() int { return min(len(p.work), runtime.GOMAXPROCS(0)) }

// each runs task(w, i) for all i in [0, n), begun in this order, and returns when all have ended.
func (p *pool) each(n int, task func(w *worker, i int)) {
	if n <= 0 {
		return
	}
	helpers := min(n, p.workers()) - 1
	if helpers == 0 {
		for i := range n {
			task(p.work[0], i)
		}
		return
	}
	p.task, p.n = task, n
	p.left.Store(int64(n))
	p.next.Store(int64(n))
	for _, w := range p.work[1 : 1+helpers] {
		select {
		case w.wake <- struct{}{}:
		default: // it has a token and will find the new job
		}
	}
	p.help(p.work[0])
	<-p.done
}

// serve waits for jobs until close.
func (p *pool) serve(w *worker) {
	for {
		select {
		case <-p.quit:
			return
		case <-w.wake:
			for p.help(w); p.more(); p.help(w) {
			}
		}
	}
}

// more looks for the next job for a moment.
func (p *pool) more() bool {
	for end := time.Now().Add(spin); time.Now().Before(end); {
		if p.next.Load() > 0 {
			return true
		}
	}
	return false
}

// help takes tasks until none is left.
func (p *pool) help(w *worker) {
	for {
		i := p.next.Add(-1)
		if i < 0 {
			return
		}
		p.task(w, p.n-1-int(i))
		if p.left.Add(-1) == 0 {
			p.done <- struct{}{}
		}
	}
}

// logits is n floats that all workers share, valid until the next call.
func (p *pool) logits(n int) []float32 {
	if len(p.shared) < n {
		p.shared = p.mem.floats(n)
	}
	return p.shared[:n]
}

func (p *pool) close() {
	close(p.quit)
	p.wg.Wait()
}
