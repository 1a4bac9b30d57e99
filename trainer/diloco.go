package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// apart is what a member of a diloco job has beside the stage: in a round it takes optimizer steps of its own from the
// shared weights, hands in what they changed, and goes on from where the mean of all members' changes leads. The stage's
// weights are its own while a round is worked on; the optimizer's state stays its own for ever, and begins anew when the
// member has to fetch the shared state. The trainer's lock guards it.
type apart struct {
	outer    optim.Outer
	shared   []float32 // the weights after the last round
	momentum []float32 // of the outer step; nil: none
	steps    uint64    // that the optimizer's state has seen
	away     bool      // the stage's weights are not the shared ones
	wild     bool      // the last inner step was not finite
	version  uint64    // of shared
}

// Progress is what a Collective may be too: it hears of each inner step, while a round's piece is still being made.
type Progress interface{ Progressed(rows int) }

// openApart begins with the stage's weights as the shared ones.
func (t *Trainer) openApart() error {
	p := t.spec.Parallel
	if p.Sync != job.DiLoCo {
		return nil
	}
	a := &apart{outer: optim.Outer{LR: *p.OuterLR, Momentum: *p.OuterMomentum}, shared: make([]float32, t.elems)}
	if a.outer.Remembers() {
		a.momentum = make([]float32, t.elems)
	}
	t.apart = a
	return t.stage.Stream.Download(a.shared, t.stage.W)
}

// explore takes the inner steps of a round, a batch of the spec each, and completes p with what they add up to. It
// returns tokens·(shared - own): the collective's division by all tokens makes the mean of what members changed, in
// which each weighs as much as it learned from. With one inner step of plain SGD that is the gradient of all batches
// together, exactly as if they had been one. The device is others' between steps.
func (t *Trainer) explore(ctx context.Context, w Work, samples []uint64, p *Piece, col Collective) ([]float32, error) {
	told, _ := col.(Progress)
	version, err := t.depart()
	if err != nil {
		return nil, err
	}
	batch, at := t.spec.GlobalBatchSize, 0
	for own := range slices.Chunk(samples, batch) {
		tokens, loss, err := t.inner(ctx, version, t.stepOf(w, at, len(samples)), own)
		if err != nil {
			return nil, err
		}
		p.Tokens, p.Loss = p.Tokens+tokens, p.Loss+loss
		if at += len(own); told != nil {
			told.Progressed(len(own))
		}
	}
	return t.arrive(version, p)
}

// stepOf is the step, as schedules count them, at which the swarm is when this member has done so many of its samples:
// the batches that counted before this round, and as much of the round's as this member has done of its own.
func (t *Trainer) stepOf(w Work, done, of int) uint64 {
	seen := float64(w.Done) + float64(w.Planned)*float64(done)/float64(max(of, 1))
	return min(1+uint64(seen/float64(t.spec.GlobalBatchSize)), max(t.steps, 1))
}

// depart puts the shared weights into the stage.
func (t *Trainer) depart() (version uint64, err error) {
	if err := t.lock(); err != nil {
		return 0, err
	}
	defer t.mu.Unlock()
	return t.apart.version, t.home()
}

// home brings the stage's weights back to the shared ones.
func (t *Trainer) home() error {
	if !t.apart.away {
		return nil
	}
	t.changing()
	t.stage.Stream.Upload(t.stage.W, t.apart.shared)
	t.apart.away = false
	return t.stage.Stream.Err()
}

// inner is one optimizer step of this member alone. Like a step of all it is skipped where there is nothing to learn from
// or a number is not finite, and counted all the same.
func (t *Trainer) inner(ctx context.Context, version, step uint64, samples []uint64) (tokens int64, loss float64, err error) {
	if err := t.lock(); err != nil {
		return 0, 0, err
	}
	defer t.mu.Unlock()
	if t.apart.version != version {
		return 0, 0, fmt.Errorf("the shared weights were replaced: %w", ErrExcluded)
	}
	sums, err := t.sum(ctx, step, samples)
	if err != nil {
		return 0, 0, err
	}
	tot := Totals{Tokens: sums.Tokens, Loss: sums.Loss, Peers: 1}
	if tot.SumSq, err = t.sumSq(t.stage.G); err != nil {
		return 0, 0, err
	}
	tot.NonFinite = !finite(tot.SumSq) || !finite(tot.Loss)
	t.apart.steps++
	t.apart.wild = tot.NonFinite
	r := t.report(step, tot)
	if r.Skipped {
		return 0, 0, nil
	}
	t.divide(t.stage.G, tot.Tokens)
	t.apart.away = true
	return tot.Tokens, tot.Loss, t.update(t.apart.steps, &r)
}

// arrive is this member's contribution. Changes that are not finite, or end where a step was not, are dropped here: the
// positions count, and weigh nothing; the optimizer's state that led there goes too.
func (t *Trainer) arrive(version uint64, p *Piece) ([]float32, error) {
	if err := t.lock(); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	if t.apart.version != version {
		return nil, fmt.Errorf("the shared weights were replaced: %w", ErrExcluded)
	}
	if t.apart.wild || p.Tokens == 0 {
		return t.discard(p), nil
	}
	u := t.host.contribution()
	if err := t.stage.Stream.Download(u[:t.elems], t.stage.W); err != nil {
		return nil, err
	}
	for i, own := range u[:t.elems] {
		u[i] = float32((float64(t.apart.shared[i]) - float64(own)) * float64(p.Tokens))
		if !finite(float64(u[i])) {
			return t.discard(p), nil
		}
	}
	return u, nil
}

func (t *Trainer) discard(p *Piece) []float32 {
	p.Tokens, p.Loss = 0, 0
	t.renew()
	return t.host.zeros()
}

// renew gives the optimizer the state of a new one.
func (t *Trainer) renew() {
	t.apart.steps = 0
	m, v := t.rule.Uses()
	none := make([]float32, t.elems)
	if m {
		t.opt.Write(optim.M, none)
	}
	if v {
		t.opt.Write(optim.V, none)
	}
}

// conclude takes the outer step with the mean of what members changed. Its report counts rounds; Batches says how much of
// the job's data counted so far.
func (t *Trainer) conclude(delta []float32, tot Totals) (StepReport, error) {
	r := t.report(t.step+1, tot)
	r.Batches = (tot.Taken + uint64(t.spec.GlobalBatchSize) - 1) / uint64(t.spec.GlobalBatchSize)
	r.LR = t.spec.LR(max(r.Batches, 1), t.steps)
	if !r.Skipped {
		t.apart.outer.Step(t.apart.shared, t.apart.momentum, delta[:t.elems])
		t.apart.version++
		t.apart.away = true
	}
	t.scale = t.scale.After(r)
	t.step, r.Passed = r.Step, t.scale.Skipped
	return r, t.home()
}

// sharedState lists the vectors of the state that members share.
func (t *Trainer) sharedState(s *State) []stateVector {
	a := t.apart
	all := []stateVector{onHost(&s.W, a.shared)}
	if a.momentum != nil {
		all = append(all, onHost(&s.M, a.momentum))
	}
	return all
}

func onHost(vector *[]float32, v []float32) stateVector {
	return stateVector{vector, func(lo int, dst []float32) error { copy(dst, v[lo:]); return nil }, func(src []float32) { copy(v, src) }}
}

// rejoin follows shared state that came from elsewhere.
func (t *Trainer) rejoin() error {
	t.renew()
	t.apart.version++
	t.apart.away = true
	return t.home()
}

// nextApart is a member's work when it is the only one.
func (l *LocalSource) nextApart() (w Work, ok bool) {
	t := l.t
	size := uint64(t.spec.Parallel.InnerSteps) * uint64(t.spec.GlobalBatchSize)
	all := t.spec.Samples(uint64(t.rows.Rows()))
	lo := (l.next - 1) * size
	if lo >= all {
		return w, false
	}
	hi := min(lo+size, all)
	return Work{Round: l.next, Positions: []shard.Range{{Lo: lo, Hi: hi}}, Done: lo, Planned: hi - lo}, true
}

// mostSamples is how much work a member may be given in a round.
func (t *Trainer) mostSamples() uint64 {
	if t.apart == nil {
		return uint64(t.spec.GlobalBatchSize)
	}
	return min(t.spec.Samples(uint64(t.rows.Rows())), math.MaxInt32)
}
