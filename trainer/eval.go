package trainer

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// EvalReport is what a model does on rows that it does not learn from.
type EvalReport struct {
	Loss     float64 `json:"loss"`     // mean over target tokens
	Tokens   int64   `json:"tokens"`   // target tokens
	Accuracy float64 `json:"accuracy"` // share of target tokens that the model finds most likely
}

// Eval measures the weights of now. Between micro-batches others may use the device.
func (t *Trainer) Eval(ctx context.Context, rows Rows) (EvalReport, error) {
	var sums objective.Sums
	all := make([]int, rows.Rows())
	for i := range all {
		all[i] = i
	}
	for micro := range slices.Chunk(all, t.spec.MicroBatchSize) {
		var seqs []model.Sequence
		for _, i := range micro {
			ids, labels, err := rows.Row(ctx, i)
			if err != nil {
				return EvalReport{}, fmt.Errorf("row %d: %w", i, err)
			}
			q := model.Sequence{IDs: ids, Target: objective.Targets(labels)}
			if err := t.model.Check(q); err != nil {
				return EvalReport{}, fmt.Errorf("row %d: %w", i, err)
			}
			seqs = append(seqs, q)
		}
		s, err := t.eval(ctx, seqs)
		if err != nil {
			return EvalReport{}, err
		}
		sums.Add(s)
	}
	r := EvalReport{Tokens: sums.Tokens}
	if n := float64(sums.Tokens); n > 0 {
		r.Loss, r.Accuracy = sums.Loss/n, float64(sums.Correct)/n
	}
	return r, nil
}

func (t *Trainer) eval(ctx context.Context, seqs []model.Sequence) (objective.Sums, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stage.Eval(ctx, seqs)
}
