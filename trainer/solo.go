package trainer

import (
	"context"
	"io"
	"math"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Solo is the Collective of a process that trains alone: its work is all there is. The result has the bits that a swarm
// of one member would get: the sum is divided in float64 and rounded once. The zero Solo is ready; it serves one Run.
type Solo struct {
	piece Piece
	u     []float32
}

// Reduce keeps the piece.
func (s *Solo) Reduce(_ context.Context, p Piece, u []float32) error {
	s.piece, s.u = p, u
	return nil
}

// Cut adds up the one piece.
func (s *Solo) Cut(context.Context, uint64) ([]Chunk, Totals, error) {
	t := Totals{Tokens: s.piece.Tokens, Loss: s.piece.Loss, Peers: 1}
	for _, x := range s.u {
		t.SumSq += float64(x) * float64(x)
	}
	t.NonFinite = math.IsNaN(t.SumSq) || math.IsInf(t.SumSq, 0) || math.IsNaN(t.Loss) || math.IsInf(t.Loss, 0)
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

// LocalSource hands out a job's steps in order, each with its whole batch.
type LocalSource struct {
	t    *Trainer
	next uint64
}

// Local is the rest of the job from the trainer's step on.
func (t *Trainer) Local() *LocalSource { return &LocalSource{t: t, next: t.Step() + 1} }

// Next implements Source.
func (l *LocalSource) Next(ctx context.Context) (Work, error) {
	if l.next > l.t.steps {
		return Work{}, io.EOF
	}
	w := Work{Round: l.next, Positions: []shard.Range{l.t.samplesOf(l.next)}}
	l.next++
	return w, ctx.Err()
}
