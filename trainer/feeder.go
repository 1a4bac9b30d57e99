package trainer

import (
	"context"
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/objective"
)

// feeder makes rows into the sequences of a micro-batch. It keeps its memory from one to the next.
type feeder struct {
	model *model.Model
	over  model.Overlay // nil: none
	rows  Rows

	seqs    []model.Sequence // valid until clear
	targets []int32          // of all of them
}

func (f *feeder) clear() {
	clear(f.seqs)
	f.seqs, f.targets = f.seqs[:0], f.targets[:0]
}

// add reads a row; key names the sample for counter-based randomness.
func (f *feeder) add(ctx context.Context, row int, key int32) error {
	ids, labels, err := f.rows.Row(ctx, row)
	if err != nil {
		return fmt.Errorf("row %d: %w", row, err)
	}
	lo := len(f.targets)
	f.targets = objective.AppendTargets(f.targets, labels) // where this moves, earlier sequences keep the old memory
	q := model.Sequence{IDs: ids, Target: f.targets[lo:], Key: key}
	if err := f.model.CheckOver(f.over, q); err != nil {
		return fmt.Errorf("row %d: %w", row, err)
	}
	f.seqs = append(f.seqs, q)
	return nil
}
