package generate

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// Part is a stage with the keys and values of its layers for one text at a time.
type Part struct {
	stage *stage.Stage
	cache *cache
	heard int // rows that the cache holds
}

// ErrForgot: a part does not hold the text so far, since it joined late or was replaced. Whoever has the text tells it again
// from row 0; a Generator does.
var ErrForgot = errors.New("a part of the model has not heard the text so far")

// NewPart generates with a stage that stays the caller's to close, after the Part.
func NewPart(s *stage.Stage) *Part { return &Part{stage: s} }

// Close gives the cache's memory back. It may be called again.
func (p *Part) Close() { p.drop() }

// Run takes the tokens of q through the part, behind the q.Past rows that its cache holds. in is what the part before gave,
// nil for the first; the last fills dst with the logits of the last token and gives nothing. Rows behind q.Past are
// forgotten, so a text can be told again from any row.
func (p *Part) Run(ctx context.Context, q model.Sequence, room int, in, dst []float32) (out []float32, err error) {
	rows := len(q.IDs)
	if _, virtual := model.Before(p.stage.Over); q.Past == 0 {
		rows += virtual
	}
	if err := p.reserve(max(room, q.Past+rows)); err != nil {
		return nil, err
	}
	if q.Past > p.heard {
		return nil, ErrForgot
	}
	p.cache.begin(q.Past, rows)
	p.heard = q.Past + rows
	return p.stage.LogitsOf(ctx, []model.Sequence{q}, p.cache, in, dst)
}

// reserve makes a cache for n tokens where the one of before is too small. The size doubles, so that a conversation
// that grows by a few tokens each time takes memory rarely.
func (p *Part) reserve(n int) error {
	if p.cache != nil && p.cache.rows >= n {
		return nil
	}
	if p.cache != nil {
		n = max(n, min(2*p.cache.rows, p.stage.Model.Config.MaxPos))
		p.drop()
	}
	c, err := newCache(p.stage.Stream.Device(), p.stage.Model.Config, p.stage.Part, n)
	if err != nil {
		return fmt.Errorf("cache for %d tokens: %w", n, err)
	}
	p.cache = c
	return nil
}

// drop gives the cache's memory back. A generation that was cancelled may have left commands that write to it.
func (p *Part) drop() {
	if p.cache == nil {
		return
	}
	_ = p.stage.Stream.Sync(context.Background()) // the next pass reports its error
	p.cache.free(p.stage.Stream.Device())
	p.cache, p.heard = nil, 0
}

// Line is parts of one process, in their order. It implements Stages.
type Line []*Part

// Logits implements Stages.
func (l Line) Logits(ctx context.Context, q model.Sequence, room int, dst []float32) (err error) {
	var x []float32
	for _, p := range l {
		if x, err = p.Run(ctx, q, room, x, dst); err != nil {
			return err
		}
	}
	return nil
}
