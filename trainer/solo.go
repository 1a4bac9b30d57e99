package trainer

import (
	"context"
	"io"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/layout"
)

// Solo is the Collective of a process that trains alone: its work is all there is. The result has the bits that a swarm
// of one member would get: the sum is divided in float64 and rounded once. The zero Solo is ready; it serves one Run.
//
// Run knows a Solo and leaves the gradient on the device (see alone); the methods are the plain way to the same result.
type Solo struct {
	Layout *layout.Layout // its chunks are what a swarm adds squares up in; nil: the whole is one

	piece Piece
	taken uint64 // positions so far
	u     []float32
}

// Reduce keeps the piece.
func (s *Solo) Reduce(_ context.Context, p Piece, u []float32) error {
	s.piece, s.u = p, u
	for _, r := range p.Positions {
		s.taken = max(s.taken, r.Hi)
	}
	return nil
}

// Cut adds up the one piece.
func (s *Solo) Cut(context.Context, uint64) ([]Chunk, Totals, error) {
	t := Totals{Tokens: s.piece.Tokens, Loss: s.piece.Loss, Peers: 1, Taken: s.taken}
	chunks := []layout.Chunk{{Lo: 0, Hi: len(s.u)}}
	if s.Layout != nil {
		chunks = s.Layout.Chunks
	}
	for _, c := range chunks {
		t.SumSq += sumSq(s.u[c.Lo:c.Hi])
	}
	t.NonFinite = !finite(t.SumSq) || !finite(t.Loss)
	return []Chunk{{Lo: 0, Hi: len(s.u), V: s.u}}, t, nil
}

// Gather divides.
func (s *Solo) Gather(_ context.Context, _ uint64, own []Chunk, dst []float32) error {
	w := float64(max(s.piece.Tokens, 1))
	for _, c := range own {
		for i, x := range c.V {
			dst[c.Lo+i] = float32(float64(x) / w)
		}
	}
	return nil
}

// sumSq is Σ x² in the order of kernels.Stream.SumSq.
func sumSq(x []float32) float64 {
	var l [16]float64
	for i, e := range x {
		l[i%16] += float64(e) * float64(e)
	}
	for half := 8; half > 0; half /= 2 {
		for j := range half {
			l[j] += l[j+half]
		}
	}
	return l[0]
}

// alone is a round of Solo whose gradient never leaves the device.
func (t *Trainer) alone(ctx context.Context, round uint64, samples []uint64) (StepReport, error) {
	if err := t.lock(); err != nil {
		return StepReport{}, err
	}
	defer t.mu.Unlock()
	sums, err := t.sum(ctx, round, samples)
	if err != nil {
		return StepReport{}, err
	}
	tot := Totals{Tokens: sums.Tokens, Loss: sums.Loss, Peers: 1}
	if tot.SumSq, err = t.sumSq(t.stage.G); err != nil {
		return StepReport{}, err
	}
	if t.due(round) {
		drawn, err := t.sumSq(t.curved.drawn)
		if err != nil {
			return StepReport{}, err
		}
		tot.SumSq += drawn
	}
	tot.NonFinite = !finite(tot.SumSq) || !finite(tot.Loss)
	return t.take(tot, func(r *StepReport) error {
		t.divide(t.stage.G, tot.Tokens)
		if t.due(round) {
			t.divide(t.curved.drawn, tot.Tokens)
		}
		return t.update(r.Step, r)
	})
}

// divide makes a sum over n tokens a mean. A quotient of two float32 is the same rounded once or by way of float64, so
// the device computes it unless n has too many bits.
func (t *Trainer) divide(sum kernels.Tensor, n int64) {
	s := t.stage.Stream
	if w := float32(n); int64(w) == n {
		s.Quotient(sum, sum, w)
		return
	}
	g := t.host.gradient()[:t.elems]
	if s.Download(g, sum) == nil { // else the stream keeps the error
		for i, x := range g {
			g[i] = float32(float64(x) / float64(n))
		}
		s.Upload(sum, g)
	}
}

// sumSq is Σ g² of a gradient, a chunk of the index space after the other as owners add it up.
func (t *Trainer) sumSq(g kernels.Tensor) (float64, error) {
	s := t.stage.Stream
	s.Fill(t.norm, 0)
	for _, c := range t.layout.Chunks {
		if c.Lo < t.elems {
			s.SumSq(t.norm, g.SliceCols(c.Lo, c.Hi), kernels.Add)
		}
	}
	err := s.DownloadF64(t.squares[:], t.norm)
	return t.squares[0], err
}

// LocalSource hands out a job's steps in order, each with its whole batch.
type LocalSource struct {
	t    *Trainer
	next uint64
}

// Local is the rest of the job from the trainer's step on.
func (t *Trainer) Local() *LocalSource { return &LocalSource{t: t, next: t.Step() + 1} }

// Next implements Source.
func (l *LocalSource) Next(ctx context.Context) (Work, error) {
	if l.t.apart != nil {
		w, ok := l.nextApart()
		if !ok {
			return w, io.EOF
		}
		l.next++
		return w, ctx.Err()
	}
	if l.next > l.t.steps {
		return Work{}, io.EOF
	}
	w := Work{Round: l.next, Positions: []shard.Range{l.t.samplesOf(l.next)}}
	l.next++
	return w, ctx.Err()
}
