package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
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
	cur    atomic.Pointer[job]
	shared []float32     // logits of a chunk, made and read by all workers
	done   chan struct{} // one token when the last task of cur has ended
	quit   chan struct{} // closed by close
	wg     sync.WaitGroup
}

// job is one call of each.
type job struct {
	n    int64
	next atomic.Int64 // first task that nobody has taken
	left atomic.Int64 // tasks that have not ended
	task func(w *worker, i int)
}

// worker has what one goroutine needs to run kernels: their argument block and scratch memory.
type worker struct {
	fam  *family
	mem  *memory
	wake chan struct{} // a token: look at pool.cur
	args args
	tail [maxOperands][lanes]float32
	buf  [numScratch][]float32
}

// newPool starts the workers.
func newPool(fam *family, mem *memory) *pool {
	p := &pool{fam: fam, mem: mem, done: make(chan struct{}, 1), quit: make(chan struct{})}
	p.work = []*worker{p.newWorker()}
	p.follow()
	return p
}

func (p *pool) newWorker() *worker {
	return &worker{fam: p.fam, mem: p.mem, wake: make(chan struct{}, 1)}
}

// follow takes over a GOMAXPROCS that grew. Workers beyond one that shrank are left asleep.
func (p *pool) follow() {
	for n := runtime.GOMAXPROCS(0); len(p.work) < n; {
		w := p.newWorker()
		p.work = append(p.work, w)
		p.wg.Go(func() { p.serve(w) })
	}
}

func (p *pool) workers() int { return min(len(p.work), runtime.GOMAXPROCS(0)) }

// each runs task(w, i) for all i in [0, n) and returns when all have ended.
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
	j := &job{n: int64(n), task: task}
	j.left.Store(int64(n))
	p.cur.Store(j)
	for _, w := range p.work[1 : 1+helpers] {
		select {
		case w.wake <- struct{}{}:
		default: // it has a token and will find the new job
		}
	}
	p.help(p.work[0], j)
	<-p.done
}

// serve waits for jobs until close.
func (p *pool) serve(w *worker) {
	for {
		select {
		case <-p.quit:
			return
		case <-w.wake:
			p.help(w, p.cur.Load())
		}
	}
}

// help takes tasks of j until none is left.
func (p *pool) help(w *worker, j *job) {
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			return
		}
		j.task(w, int(i))
		if j.left.Add(-1) == 0 {
			p.done <- struct{}{}
		}
	}
}

func (p *pool) close() {
	close(p.quit)
	p.wg.Wait()
}

// The scratch buffers of a worker.
const (
	scratchA    = iota // packed block of a GEMM's left operand
	scratchB           // packed block of its right operand
	scratchRow         // a row or two
	scratchTile        // attention scores
	scratchTile2
	numScratch
)

// scratch is n floats of undefined contents, valid until the worker asks for the same buffer again.
func (w *worker) scratch(which, n int) []float32 {
	if len(w.buf[which]) < n {
		w.buf[which] = regrow(w.mem, w.buf[which], n)
	}
	return w.buf[which][:n]
}

// logits is n floats that all workers share, valid until the next call.
func (p *pool) logits(mem *memory, n int) []float32 {
	if len(p.shared) < n {
		p.shared = regrow(mem, p.shared, n)
	}
	return p.shared[:n]
}

// regrow replaces old by a buffer of at least n floats. Scratch is small beside tensors and bounded by the shapes of
// an op; running out of it is fatal like running out of stack.
func regrow(mem *memory, old []float32, n int) []float32 {
	if old != nil {
		old = old[:cap(old)]
		if err := mem.free(unsafe.Slice((*byte)(unsafe.Pointer(&old[0])), 4*len(old))); err != nil {
			panic("kernels/cpu: " + err.Error())
		}
	}
	n += n / 4
	b, err := mem.alloc(4 * n)
	if err != nil {
		panic("kernels/cpu: scratch: " + err.Error())
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), n)
}
