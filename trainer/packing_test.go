package trainer_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// materialise makes positions of rows.
func materialise(t testing.TB, o data.Options, tok data.Tokenizer, src data.Source) *data.Reader {
	t.Helper()
	mem := shard.NewMem()
	b, err := data.Build(t.Context(), []data.Source{src}, tok, o, mem)
	if err != nil {
		t.Fatal(err)
	}
	r, err := data.Open(t.Context(), mem, b.Train)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func lines(text string) data.Source {
	return data.Source{Name: "rows", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

// firstStep trains one step on all positions.
func firstStep(t testing.TB, s tiny.Shape, spec job.Spec, rows trainer.Rows) trainer.StepReport {
	t.Helper()
	spec.GlobalBatchSize, spec.MicroBatchSize, spec.MaxSteps = rows.Rows(), 2, 1
	spec.Optimizer.LR = 1e-3
	tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: base(t, s), Rows: rows})
	return train(t, tr, 1)[0]
}

// TestPackedLearnsTheSame trains the same rows one by one and packed: rows of a position do not see each other, their
// positions begin at 0, and nothing predicts the first token of the next.
func TestPackedLearnsTheSame(t *testing.T) {
	var text strings.Builder
	for i := range 23 {
		ids := make([]string, 3+i*7%40)
		for k := range ids {
			ids[k] = fmt.Sprint((i*31 + k*k) % 250)
		}
		fmt.Fprintf(&text, "{\"input_ids\":[%s]}\n", strings.Join(ids, ","))
	}
	for _, s := range []tiny.Shape{{Type: "llama"}, {Type: "gpt2"}, {Type: "mistral", Window: 8}} {
		t.Run(s.Type, func(t *testing.T) {
			s.Vocab, s.Context = 256, 64
			for _, spec := range []job.Spec{{}, {Adapter: job.AdapterLora}, {GradientCheckpointing: true}} {
				alone := firstStep(t, s, spec, materialise(t, data.Options{SequenceLen: 64}, nil, lines(text.String())))
				rows := materialise(t, data.Options{SequenceLen: 64, Pack: true}, nil, lines(text.String()))
				packed := firstStep(t, s, spec, rows)
				if rows.Rows() >= 12 || rows.Parts() != 23 {
					t.Errorf("%d rows in %d positions", rows.Parts(), rows.Rows())
				}
				n := float64(alone.Tokens)
				if alone.Tokens != packed.Tokens || math.Abs(alone.Loss-packed.Loss)*n > 1e-5*n || math.Abs(alone.GradNorm-packed.GradNorm) > 1e-5*alone.GradNorm {
					t.Errorf("packed %+v, alone %+v", packed, alone)
				}
			}
		})
	}
}

// padded are rows as trainers without packing see them: each filled up to the longest of its micro-batch.
type padded struct {
	*data.Reader
	micro, limit int // rows; tokens, 0: the longest of the micro-batch
}

func (p padded) Row(ctx context.Context, i int) (ids, labels []int32, err error) {
	n := p.limit
	for k := i / p.micro * p.micro; p.limit == 0 && k < min(p.Rows(), (i/p.micro+1)*p.micro); k++ {
		n = max(n, p.Len(k))
	}
	ids, labels, err = p.Reader.Row(ctx, i)
	for len(ids) < n {
		ids, labels = append(ids, 0), append(labels, data.Ignore)
	}
	return ids, labels, err
}

// BenchmarkAlpaca trains one epoch of real instructions: padded to sequence_len, padded to the longest row of each
// micro-batch of 8, row by row without padding, and packed. tokens/s counts the rows' own tokens. Rows are as long as Qwen2
// has them; their ids are folded into a small model's vocabulary.
func BenchmarkAlpaca(b *testing.B) {
	text := folded(b, 96, 512)
	alone := materialise(b, data.Options{SequenceLen: 512}, nil, lines(text))
	packed := materialise(b, data.Options{SequenceLen: 512, Pack: true}, nil, lines(text))
	b.Logf("%d rows of %d tokens, the longest %d, in %d positions", alone.Rows(), alone.Tokens(), alone.Longest(), packed.Rows())
	for _, tc := range []struct {
		name  string
		rows  trainer.Rows
		micro int
	}{
		{"padded512", padded{alone, 8, 512}, 8}, {"padded", padded{alone, 8, 0}, 8}, {"alone", alone, 8}, {"packed", packed, 2},
	} {
		b.Run(tc.name, func(b *testing.B) {
			spec := job.Spec{MicroBatchSize: tc.micro, GlobalBatchSize: tc.micro, NumEpochs: float64(b.N), Shuffle: new(false)}
			spec.Optimizer.LR = 1e-4
			tr := newTrainer(b, trainer.Config{Spec: valid(b, spec), Model: base(b, stories), Rows: tc.rows})
			b.ResetTimer()
			train(b, tr, 0)
			b.ReportMetric(float64(alone.Tokens())*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// TestNEFTune: noise acts in training, is the same for the same spec with and without recomputation, and never in an
// evaluation.
func TestNEFTune(t *testing.T) {
	s := tiny.Shape{Vocab: 256, Context: 64}
	plain := firstStep(t, s, job.Spec{}, passagesOf(20))
	noisy := firstStep(t, s, job.Spec{NEFTuneAlpha: 5}, passagesOf(20))
	again := firstStep(t, s, job.Spec{NEFTuneAlpha: 5, GradientCheckpointing: true}, passagesOf(20))
	if noisy.Loss == plain.Loss || noisy.Loss != again.Loss || noisy.GradNorm != again.GradNorm {
		t.Errorf("plain %+v, noisy %+v, again %+v", plain, noisy, again)
	}
	if half := firstStep(t, s, job.Spec{NEFTuneAlpha: 5, DType: "bf16"}, passagesOf(20)); math.Abs(half.Loss-noisy.Loss) > 0.02*noisy.Loss {
		t.Errorf("in bf16 %+v, in fp32 %+v", half, noisy)
	}
	var evals [2]trainer.EvalReport
	for i, alpha := range []float64{0, 5} {
		spec := job.Spec{NEFTuneAlpha: alpha, MaxSteps: 1, Optimizer: job.Optimizer{LR: 1e-3}}
		tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: base(t, s), Rows: passagesOf(20)})
		var err error
		if evals[i], err = tr.Eval(t.Context(), passagesOf(20)); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(evals[0], evals[1]) {
		t.Errorf("noise in an evaluation: %+v, %+v", evals[0], evals[1])
	}
}

func passagesOf(tokens int) rows {
	out := make(rows, 4)
	for i := range out {
		for k := range tokens {
			out[i] = append(out[i], int32((i*37+k*k)%250))
		}
	}
	return out
}

// folded are the first rows of the shared alpaca file in Qwen2's tokens, each id modulo vocab.
func folded(t testing.TB, rows, vocab int) string {
	t.Helper()
	dir := modeltest.Data(t)
	tok, err := tokenizer.LoadDir(filepath.Join(dir, "tokenizers", "qwen2"))
	if err != nil {
		t.Fatal(err)
	}
	r := materialise(t, data.Options{SequenceLen: 512}, tok, data.File(filepath.Join(dir, "jsonl", "instructions_alpaca_style.jsonl"), ""))
	var b strings.Builder
	for i := range rows {
		ids, _, err := r.Row(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		for k := range ids {
			ids[k] %= int32(vocab)
		}
		fmt.Fprintf(&b, "{\"input_ids\":%s}\n", strings.ReplaceAll(fmt.Sprint(ids), " ", ","))
	}
	return b.String()
}
