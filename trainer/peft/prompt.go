package peft

import (
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Prompt puts learned embeddings before each text (Lester et al. 2021, arXiv:2104.08691). They are rows of the residual
// stream like tokens, and attention's mask and positions treat them so. They start as the embeddings of a text, or of
// tokens drawn from the vocabulary (section 2.1 of the paper).
type Prompt struct {
	base
	embeddings *autograd.Param // (tokens, hidden)
}

func (p *Prompt) place() error {
	o := &p.Config.Prompt
	if err := p.checkTokens("prompt.tokens", o.Tokens); err != nil {
		return err
	}
	for _, id := range p.InitIDs {
		if id < 0 || int(id) >= p.model.Config.Vocab {
			return fmt.Errorf("prompt.init_text: token %d is not in the model's vocabulary of %d", id, p.model.Config.Vocab)
		}
	}
	p.embeddings = p.add(promptTensor, 0, o.Tokens, p.model.Config.Hidden, o.Tokens, p.model.Config.Hidden)
	p.fresh, p.config = p.begin, p.fileConfig
	return nil
}

// begin copies rows of the token table. A text that is too short is repeated, as stock PEFT does.
func (p *Prompt) begin(q *autograd.Param, dst []float32) error {
	table, err := p.tokenTable()
	if err != nil {
		return err
	}
	all := make([]float32, table.Len())
	if err := p.model.Read(table, all); err != nil {
		return err
	}
	ids := p.InitIDs
	if len(ids) == 0 {
		ids = draws(q.Rows, p.model.Config.Vocab, p.seed, q.Name)
	}
	for i := range q.Rows {
		id := int(ids[i%len(ids)])
		copy(dst[i*q.Cols:][:q.Cols], all[id*q.Cols:])
	}
	return nil
}

// tokenTable is the model's table of token embeddings: the first of its kind.
func (p *Prompt) tokenTable() (*autograd.Param, error) {
	i := slices.IndexFunc(p.model.Params, func(q *autograd.Param) bool {
		return q.Kind == autograd.Embedding && q.Rows == p.model.Config.Vocab && q.Cols == p.model.Config.Hidden
	})
	if i < 0 {
		return nil, fmt.Errorf("the model has no table of token embeddings")
	}
	return p.model.Params[i], nil
}

// Before implements model.BeforeOverlay.
func (p *Prompt) Before() (positions, rows int) {
	return p.Config.Prompt.Tokens, p.Config.Prompt.Tokens
}

// Embed implements model.EmbedOverlay.
func (p *Prompt) Embed(c *model.Ctx, x autograd.Var) autograd.Var {
	if c.Virtual.At.None() { // the cache holds them
		return x
	}
	return c.PutRows(x, p.embeddings, c.Virtual.Rows, c.Virtual.At)
}
