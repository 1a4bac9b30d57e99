package stage

import (
	"context"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// Curve adds to G the gradient of the summed loss on labels that the model draws itself wherever there is a target, and
// counts them: its mean, squared, estimates the curvature of the loss (Martens 2020; Liu et al. 2023, section 2.3).
func (s *Stage) Curve(ctx context.Context, seed, step uint64, seqs []model.Sequence) (tokens int64, err error) {
	s.use(0)
	c := s.start(ctx, true, step, seqs)
	s.hidden = s.Model.Hidden(c)
	if tokens, err = s.draw(ctx, c, seed, step, seqs); err != nil {
		return 0, err
	}
	return tokens, s.backFrom(ctx, c, s.host.target)
}

// backFrom adds the gradient of the summed loss on other targets than those of the batch.
func (s *Stage) backFrom(ctx context.Context, c *model.Ctx, target []int32) error {
	h := &s.host
	h.coef = resize(h.coef, len(target))
	objective.CrossEntropy{}.Grad(target, h.coef)
	s.enlarge(h.coef)
	up := c.Alloc(len(h.coef), 1)
	c.S.Upload(up, h.coef)
	c.S.UploadI32(c.Target, target)
	s.scores = s.Model.Score(ctx, c, s.hidden, up)
	if err := s.tape.Err(); err != nil {
		return err
	}
	return s.Backward(ctx)
}

// draw replaces the targets on the host by tokens that are drawn by counters, a few rows of logits at a time.
func (s *Stage) draw(ctx context.Context, c *model.Ctx, seed, step uint64, seqs []model.Sequence) (tokens int64, err error) {
	const rows = 64
	target, vocab := s.host.target, s.Model.Config.Vocab
	logits := make([]float32, min(rows, len(target))*vocab)
	names := counters(seqs)
	for lo := 0; lo < len(target); lo += rows {
		hi := min(lo+rows, len(target))
		mark, part := s.arena.Mark(), logits[:(hi-lo)*vocab]
		y := s.Model.Logits(ctx, c, autograd.Var{T: s.hidden.T.SliceRows(lo, hi)}, hi-lo)
		if err := s.tape.Err(); err != nil {
			return 0, err
		}
		if err := s.Stream.Download(part, y); err != nil {
			return 0, err
		}
		s.arena.Release(mark)
		s.Model.Cap(part)
		for i := lo; i < hi; i++ {
			if target[i] != objective.Ignore {
				n := names[tokens]
				target[i] = objective.Draw(part[(i-lo)*vocab:][:vocab], objective.Uniform(seed, step, n.key, n.token))
				tokens++
			}
		}
	}
	return tokens, nil
}

// counter names a target of a sample.
type counter struct{ key, token int32 }

// counters names the targets; sequences of one sample that follow each other count on.
func counters(seqs []model.Sequence) (names []counter) {
	next := counter{key: -1}
	for _, q := range seqs {
		if q.Key != next.key {
			next = counter{key: q.Key}
		}
		for _, y := range q.Target {
			if y != objective.Ignore {
				names = append(names, next)
				next.token++
			}
		}
	}
	return names
}
