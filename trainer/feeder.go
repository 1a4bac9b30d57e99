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

// add reads a position: a row, or several that are packed. key names the sample for counter-based randomness.
func (f *feeder) add(ctx context.Context, row int, key int32) error {
	ids, labels, err := f.rows.Row(ctx, row)
	if err != nil {
		return fmt.Errorf("row %d: %w", row, err)
	}
	var cuts []int
	if p, ok := f.rows.(Packed); ok {
		cuts = p.Cuts(row)
	}
	before, _ := model.Before(f.over)
	lo := 0
	for i := range len(cuts) + 1 {
		hi := len(ids)
		if i < len(cuts) {
			hi = cuts[i]
		}
		q := model.Sequence{IDs: ids[lo:hi], Target: f.shifted(labels[lo:hi]), Key: key, Offset: lo + i*before}
		if err := f.model.CheckOver(f.over, q); err != nil {
			return fmt.Errorf("row %d: %w", row, err)
		}
		f.seqs = append(f.seqs, q)
		lo = hi
	}
	return nil
}

// shifted are the targets of a sequence.
func (f *feeder) shifted(labels []int32) []int32 {
	lo := len(f.targets)
	f.targets = objective.AppendTargets(f.targets, labels) // where this moves, earlier sequences keep the old memory
	return f.targets[lo:]
}
