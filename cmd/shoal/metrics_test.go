package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// Whatever comes, the file has each step once, in order, and what a reader has open is never half written.
func TestMetricsFile(t *testing.T) {
	m, err := newMetrics(t.TempDir(), "a", job.Report{TensorBoard: true})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want ...uint64) {
		t.Helper()
		data, err := os.ReadFile(m.path)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for line := range strings.Lines(string(data)) {
			var r trainer.StepReport
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Step)
		}
		if !slices.Equal(got, want) {
			t.Errorf("steps %v, want %v", got, want)
		}
	}
	add := func(step uint64, loss float64) {
		t.Helper()
		if err := m.add(trainer.StepReport{Step: step, Loss: loss}); err != nil {
			t.Fatal(err)
		}
	}
	check()
	add(1, 3)
	add(2, 2)
	add(2, 2) // told twice
	check(1, 2)
	add(5, 1) // the node was away
	add(3, 1.5)
	add(4, 1.2)
	check(1, 2, 3, 4, 5)
	if err := m.back(2); err != nil {
		t.Fatal(err)
	}
	check(1, 2)
	add(3, 1.4)
	add(2, 1.9) // another generation's step 2
	check(1, 2, 3)
	if m.steps[1].Loss != 1.9 {
		t.Errorf("step 2 has loss %v", m.steps[1].Loss)
	}
}

func TestShortIDs(t *testing.T) {
	id := "12D3KooWLhE9NFSGFDZ8g527PRbZGvjhBsFUNoijtHfZU838J61V"
	if got, want := shortIDs("round 3: "+id+": silent, not "+id), "round 3: …U838J61V: silent, not …U838J61V"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWasted(t *testing.T) {
	good, empty, broken := trainer.StepReport{Tokens: 3}, trainer.StepReport{Skipped: true}, trainer.StepReport{Tokens: 3, Skipped: true}
	for _, tc := range []struct {
		steps []trainer.StepReport
		want  string // "": something was learned
	}{
		{nil, ""},
		{[]trainer.StepReport{broken, good, empty}, ""},
		{[]trainer.StepReport{empty, empty}, "no target tokens"},
		{[]trainer.StepReport{broken, broken}, "not finite"},
		{[]trainer.StepReport{empty, broken}, "1 of 2 for lack of target tokens"},
	} {
		err := (&metricsFile{steps: tc.steps}).wasted()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.steps, err, tc.want)
		}
	}
}

func TestDiverged(t *testing.T) {
	good, burst := trainer.StepReport{Tokens: 3, Loss: 1}, trainer.StepReport{Tokens: 3, Skipped: true}
	scaled := trainer.StepReport{Tokens: 3, Loss: 2, LossScale: 8, Skipped: true} // a finite loss, gradients that overflowed
	for _, tc := range []struct {
		steps []trainer.StepReport
		want  bool
	}{
		{nil, false},
		{[]trainer.StepReport{good, burst, burst}, false},
		{[]trainer.StepReport{burst, burst, burst, good}, false},
		{[]trainer.StepReport{good, scaled, scaled, scaled}, false},
		{[]trainer.StepReport{good, burst, burst, burst}, true},
	} {
		if err := (&metricsFile{steps: tc.steps}).diverged(); (err != nil) != tc.want {
			t.Errorf("%+v: %v", tc.steps, err)
		}
	}
}
