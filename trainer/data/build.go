package data

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Options say how rows become positions.
type Options struct {
	SequenceLen   int     // tokens of a position, longer rows are cut; 0: ModelLimit
	ModelLimit    int     // tokens the model can attend to; 0: unknown
	Vocab         int     // ids that rows bring along are below it; 0: unknown
	SkipBadRows   bool    // count malformed rows instead of refusing them
	TrainOnInputs bool    // learn prompts as well
	Pack          bool    // fill positions up to SequenceLen with several rows; those held out stay alone
	ValSetSize    float64 // rows held out: a fraction below 1, or a number
	Seed          uint64  // decides which rows are held out
	Name          string  // of the manifests
	Progress      func(Stats)
}

// Stats count what Build met.
type Stats struct {
	Rows    int    `json:"rows"`             // positions to train on
	Packed  int    `json:"packed,omitempty"` // rows in them, where they are packed
	Held    int    `json:"held"`             // positions held out
	Tokens  uint64 `json:"tokens"`           // of both
	Targets uint64 `json:"targets"`          // of both
	// Of them, those of the positions held out.
	HeldTokens  uint64 `json:"held_tokens"`
	HeldTargets uint64 `json:"held_targets"`

	Longest   int    `json:"longest"`    // tokens, after cutting
	Truncated int    `json:"truncated"`  // rows that were cut
	CutTokens uint64 `json:"cut_tokens"` // that cutting dropped
	NoTarget  int    `json:"no_target"`  // rows from which nothing is learned
	Skipped   int    `json:"skipped"`    // malformed rows
	// FirstBad says what was wrong with the first malformed rows.
	FirstBad []string `json:"first_bad,omitempty"`
}

// Built is the outcome of Build.
type Built struct {
	Train shard.Manifest
	Val   shard.Manifest // without rows if nothing is held out
	Stats Stats
}

// Build reads rows in order and writes their positions into put. tok may be nil if all rows are token ids. It holds
// one row and a few blocks in memory; only choosing rows to hold out takes 5 bytes per row.
func Build(ctx context.Context, sources []Source, tok Tokenizer, o Options, put shard.Putter) (Built, error) {
	limit, err := o.limit()
	if err != nil {
		return Built{}, err
	}
	held, err := choose(ctx, sources, o)
	if err != nil {
		return Built{}, err
	}
	b := &builder{o: o, held: held, train: NewWriter(put), val: NewWriter(put)}
	if o.Pack {
		b.train.packed = true
		b.packer = &packer{limit: limit, w: b.train}
	}
	for _, s := range sources {
		r := &rowReader{tok: tok, limit: limit, vocab: o.Vocab, all: o.TrainOnInputs, typ: s.Type}
		if err := b.source(ctx, s, r); err != nil {
			return Built{}, err
		}
	}
	return b.close(ctx)
}

func (o Options) limit() (int, error) {
	if o.SequenceLen > 0 && o.ModelLimit > 0 && o.SequenceLen > o.ModelLimit {
		return 0, fmt.Errorf("sequence_len %d is more than the %d positions of the model; lower it", o.SequenceLen, o.ModelLimit)
	}
	for _, n := range []int{o.SequenceLen, o.ModelLimit} {
		if n > 0 {
			return min(n, MaxTokens), nil
		}
	}
	return MaxTokens, nil
}

type builder struct {
	o          Options
	held       []bool // by row, counted over all sources
	row        int
	train, val *Writer
	packer     *packer // before train; nil: rows stay alone
	stats      Stats
}

func (b *builder) source(ctx context.Context, s Source, r *rowReader) error {
	return s.lines(func(n int, line []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		row := b.row
		b.row++
		e, cut, err := r.example(line)
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", s.Name, n, err)
			if !b.o.SkipBadRows {
				return fmt.Errorf("%w (or set skip_bad_rows: true)", err)
			}
			b.bad(err)
			return nil
		}
		b.count(e, cut)
		switch {
		case row < len(b.held) && b.held[row]:
			return b.val.Add(ctx, e)
		case b.packer != nil:
			return b.packer.add(ctx, e)
		}
		return b.train.Add(ctx, e)
	})
}

func (b *builder) bad(err error) {
	b.stats.Skipped++
	if len(b.stats.FirstBad) < 5 {
		b.stats.FirstBad = append(b.stats.FirstBad, err.Error())
	}
}

func (b *builder) count(e Example, cut int) {
	b.stats.Longest = max(b.stats.Longest, len(e.IDs))
	if cut > 0 {
		b.stats.Truncated++
		b.stats.CutTokens += uint64(cut)
	}
	if e.Targets() == 0 {
		b.stats.NoTarget++
	}
	if b.o.Progress != nil && b.row%1024 == 0 {
		s := b.total()
		s.Rows = b.row - s.Held - s.Skipped // those waiting to be packed too
		b.o.Progress(s)
	}
}

func (b *builder) total() Stats {
	s := b.stats
	s.Rows, s.Held = int(b.train.rows), int(b.val.rows)
	s.Tokens, s.Targets = b.train.tokens+b.val.tokens, b.train.targets+b.val.targets
	s.HeldTokens, s.HeldTargets = b.val.tokens, b.val.targets
	if b.packer != nil {
		s.Packed = int(b.train.parts)
	}
	return s
}

func (b *builder) close(ctx context.Context) (Built, error) {
	if b.packer != nil {
		if err := b.packer.flush(ctx); err != nil {
			return Built{}, err
		}
	}
	s := b.total()
	if s.Rows == 0 {
		return Built{}, fmt.Errorf("no rows to train on (%d held out, %d malformed)", s.Held, s.Skipped)
	}
	if s.Targets == 0 {
		return Built{}, errors.New("nothing to learn in any row: all labels are ignored, or sequence_len cuts before the answers")
	}
	train, err := b.train.Close(ctx, b.o.Name)
	if err != nil {
		return Built{}, err
	}
	val, err := b.val.Close(ctx, b.o.Name)
	if err != nil {
		return Built{}, err
	}
	if b.o.Progress != nil {
		b.o.Progress(s)
	}
	return Built{train, val, s}, nil
}

// heldOut is xored to the seed so that held-out rows do not follow from the order of epoch 0.
const heldOut = 0x68656c642d6f7574 // "held-out"

// choose decides which rows are held out, counting every line that is not blank: the first ValSetSize rows of the
// Sampler's permutation of (Seed xor heldOut, 0). They stay in file order.
func choose(ctx context.Context, sources []Source, o Options) ([]bool, error) {
	if o.ValSetSize == 0 {
		return nil, nil
	}
	rows := 0
	for _, s := range sources {
		err := s.lines(func(int, []byte) error { rows++; return ctx.Err() })
		if err != nil {
			return nil, err
		}
		if rows > MaxRows {
			return nil, fmt.Errorf("more than %d rows; split the data into several jobs", MaxRows)
		}
	}
	n := o.ValSetSize
	if n < 1 {
		n = max(1, math.Round(n*float64(rows)))
	}
	if !(n > 0 && n < float64(rows)) {
		return nil, fmt.Errorf("val_set_size %v of %d rows leaves none to train on; lower it", o.ValSetSize, rows)
	}
	held := make([]bool, rows)
	for _, i := range permutation(uint64(rows), o.Seed^heldOut, 0)[:int(n)] {
		held[i] = true
	}
	return held, nil
}
