package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
	"github.com/seed-7b27c88a/shoal/trainer/report"
)

// cookbookDir holds the specs of docs/cookbook.md.
const cookbookDir = "../../../docs/cookbook"

// kitchen is a copy of the cookbook's folder beside a small model called base, as the cookbook tells readers to have it,
// and makes it the working directory. real tells that the model is one that has learned to write, not random weights.
func kitchen(t *testing.T) (back string, real bool) {
	t.Helper()
	shoalBinary(t) // built where the module is
	back, err := filepath.Abs(cookbookDir)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(cookbookDir)); err != nil {
		t.Fatal(err)
	}
	small, err := filepath.Abs("../../../../shared/data/models/stories260K")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = os.Stat(small); err == nil {
		real, err = true, os.Symlink(small, filepath.Join(dir, "base"))
	} else {
		shape := tiny.Shape{Hidden: 64, Inner: 172, Layers: 5, Heads: 8, KVHeads: 4, Context: 512, Tied: true}
		err = tiny.Write(filepath.Join(dir, "base"), shape, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	return back, real
}

// target is what a spec's comment promises.
func target(t *testing.T, spec string) float64 {
	t.Helper()
	b, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`# Target: a loss below ([0-9.]+) over the last four steps\.\n`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s names no target", spec)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestCookbook cooks every recipe in one process and checks what it promises. With SHOAL_COOKBOOK=write the pictures
// and the table of docs/cookbook.md are drawn from what came out.
func TestCookbook(t *testing.T) {
	back, real := kitchen(t)
	write := os.Getenv("SHOAL_COOKBOOK") == "write"
	specs, err := filepath.Glob("*.yaml")
	if err != nil || len(specs) < 20 {
		t.Fatalf("%d specs, %v", len(specs), err)
	}
	var table bytes.Buffer
	for _, spec := range specs {
		name := strings.TrimSuffix(spec, ".yaml")
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			if _, err := run(time.Minute, shoalBinary(t), "--home", t.TempDir(), "train", "--local", "-f", spec, "-o", out); err != nil {
				t.Fatal(err)
			}
			first, last := ends(t, out)
			t.Logf("loss %.3f to %.3f", first, last)
			switch {
			case real && !(last < target(t, spec)):
				t.Errorf("the loss is %.3f at the end, the spec promises less than %v", last, target(t, spec))
			case !(last < first):
				t.Errorf("the loss is %.3f at the end and was %.3f at the beginning", last, first)
			}
			if name == "evaluate" && real {
				checkStopped(t, out)
			}
			if write && real {
				picture(t, back, spec, out)
				fmt.Fprintf(&table, "| [%s](cookbook/%s) | %s | %.2f → %.2f | ![loss](cookbook/%s.svg) |\n", name, spec, learns(t, spec), first, last, name)
			}
		})
	}
	if write && real && !t.Failed() {
		insert(t, filepath.Join(back, "../cookbook.md"), table.String())
	}
}

// ends are the first loss of a run and the mean of its last four.
func ends(t *testing.T, out string) (first, last float64) {
	t.Helper()
	ms, err := readMetrics(out)
	if err != nil || len(ms) < 4 {
		t.Fatalf("%d steps, %v", len(ms), err)
	}
	for _, m := range ms[len(ms)-4:] {
		last += m.Loss / 4
	}
	return ms[0].Loss, last
}

// checkStopped: a job that overfits ends early, its result is the best one measured, and the text of before is seen to
// be forgotten.
func checkStopped(t *testing.T, out string) {
	t.Helper()
	all := measurements(t, out)
	last := all[len(all)-1]
	best := slices.MinFunc(all, func(a, b trainer.EvalReport) int { return cmp.Compare(a.Loss, b.Loss) })
	t.Logf("%d measurements up to step %d, the best at step %d", len(all), last.Step, best.Step)
	if last.Step >= 120 || best.Step+20 != last.Step || all[0].Step != 0 {
		t.Errorf("measured from step %d to %d, best at %d", all[0].Step, last.Step, best.Step)
	}
	if !(last.BaseLoss > all[0].BaseLoss) || !(best.Tasks[0].Accuracy > all[0].Tasks[0].Accuracy) || len(last.Samples) != 1 {
		t.Errorf("before %+v, at best %+v", all[0], best)
	}
	got, err := run(time.Minute, shoalBinary(t), "--home", t.TempDir(), "--json", "eval", "--model", "base", "--adapter", out, "--tasks", "quiz.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var again trainer.EvalReport
	if err := json.Unmarshal([]byte(got), &again); err != nil || again.Tasks[0].Accuracy != best.Tasks[0].Accuracy {
		t.Errorf("the result answers %+v, %v; the best measured %+v", again.Tasks, err, best.Tasks[0])
	}
	if files, _ := filepath.Glob(filepath.Join(out, "events.out.tfevents.*")); len(files) != 1 {
		t.Errorf("event files %v", files)
	}
}

func measurements(t *testing.T, out string) (all []trainer.EvalReport) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, "eval.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var r trainer.EvalReport
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// learns is how many weights a spec trains.
func learns(t *testing.T, file string) string {
	t.Helper()
	spec, err := job.Load(file)
	if err == nil {
		err = spec.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := trainer.Layout(&spec, safetensors.Dir("base"), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := l.Size
	if spec.Optimizer.Name == job.Sophia { // half of its space are estimates of the curvature
		n /= 2
	}
	return fmt.Sprint(n)
}

func picture(t *testing.T, dir, spec, out string) {
	t.Helper()
	name := strings.TrimSuffix(spec, ".yaml")
	if err := os.WriteFile(filepath.Join(dir, name+".svg"), report.SVG(name+": loss", []report.Series{lossOf(t, name, out)}), 0o644); err != nil {
		t.Fatal(err)
	}
}

func lossOf(t *testing.T, name, out string) report.Series {
	t.Helper()
	ms, err := readMetrics(out)
	if err != nil {
		t.Fatal(err)
	}
	s := report.Series{Name: name}
	for _, m := range ms {
		s.X, s.Y = append(s.X, float64(m.Step)), append(s.Y, m.Loss)
	}
	return s
}

// insert replaces the rows of the page's table.
func insert(t *testing.T, page, rows string) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const head = "| --- | ---: | --- | --- |\n"
	before, after, ok := strings.Cut(string(b), head)
	lines := strings.SplitAfter(after, "\n")
	end := slices.IndexFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "|") })
	if !ok || end < 0 {
		t.Fatalf("%s has no table of recipes", page)
	}
	if err := os.WriteFile(page, []byte(before+head+rows+strings.Join(lines[end:], "")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCookbookOnSwarm: dropout, noise and packed rows give on three nodes the curve that one process gives.
func TestCookbookOnSwarm(t *testing.T) {
	_, real := kitchen(t)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cpu", "--bootstrap", a.addr())
	c := newDaemon(t, "--device", "cpu:avx2", "--bootstrap", a.addr())
	for _, name := range []string{"lora", "neftune", "chat"} {
		t.Run(name, func(t *testing.T) {
			alone, together := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
			args := []string{"train", "-f", name + ".yaml", "--set", "max_steps=6", "--set", "swarm.min_peers=3"}
			if _, err := a.output(time.Minute, append(slices.Clone(args), "--local", "-o", alone)...); err != nil {
				t.Fatal(err)
			}
			if _, err := a.output(2*time.Minute, append(args, "-o", together)...); err != nil {
				t.Fatal(err)
			}
			checkAgreement(t, lastJob(t, a), 6, a, b, c)
			checkSame(t, together, alone)
		})
	}
	if real { // random weights do not overfit in time
		t.Run("evaluate", func(t *testing.T) { stopsOnSwarm(t, a) })
	}
}

// typeTolerance is how far the loss of a half type may be from float32's at any of 50 steps of full fine-tuning. The
// largest differences stand where the curve falls fastest.
const typeTolerance = 0.1

// stopsOnSwarm: the submitter measures what one process measures, ends the job by the same rule, though the others may
// have done some steps more by then, and exports the same best weights.
func stopsOnSwarm(t *testing.T, a *daemon) {
	alone, together := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
	if _, err := a.output(time.Minute, "train", "-f", "evaluate.yaml", "--local", "-o", alone); err != nil {
		t.Fatal(err)
	}
	if _, err := a.output(2*time.Minute, "train", "-f", "evaluate.yaml", "--set", "swarm.min_peers=3", "-o", together); err != nil {
		t.Fatal(err)
	}
	want, got := measurements(t, alone), measurements(t, together)
	if len(got) < len(want) {
		t.Fatalf("%d measurements, one process makes %d", len(got), len(want))
	}
	best := slices.MinFunc(want, func(a, b trainer.EvalReport) int { return cmp.Compare(a.Loss, b.Loss) })
	for i, w := range want {
		// Past the best the run overfits at a high rate, which magnifies the last bits of sums.
		bar := 1e-3
		if w.Step > best.Step {
			bar = 0.05
		}
		if g := got[i]; g.Step != w.Step || math.Abs(g.Loss-w.Loss) > bar || len(g.Tasks) != len(w.Tasks) {
			t.Errorf("measured %+v, one process %+v", g, w)
		}
	}
	if last := got[len(got)-1].Step; last >= 120 {
		t.Errorf("the job went on to step %d", last)
	}
	for _, dir := range []string{alone, together} {
		text, err := a.output(time.Minute, "--json", "eval", "--model", "base", "--adapter", dir, "--base-text", "story.txt")
		if err != nil {
			t.Fatal(err)
		}
		var r trainer.EvalReport
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		if math.Abs(r.BaseLoss-best.BaseLoss) > 0.02 {
			t.Errorf("the result's base text has %.4f, the best measured %.4f", r.BaseLoss, best.BaseLoss)
		}
	}
}

// TestCookbookTypes: bf16 and fp16 learn as fp32 does. The picture shows the three curves.
func TestCookbookTypes(t *testing.T) {
	back, real := kitchen(t)
	if !real {
		t.Skip("the tolerance is that of a model that has learned to write, and the reference data is not here")
	}
	var all []report.Series
	for _, typ := range []string{job.FP32, job.BF16, job.FP16} {
		out := filepath.Join(t.TempDir(), typ)
		if _, err := run(time.Minute, shoalBinary(t), "--home", t.TempDir(), "train", "--local", "-f", "full.yaml",
			"--set", "dtype="+typ, "--set", "max_steps=50", "-o", out); err != nil {
			t.Fatal(err)
		}
		all = append(all, lossOf(t, typ, out))
	}
	for _, s := range all[1:] {
		worst := 0.0
		for i, y := range s.Y {
			worst = max(worst, y-all[0].Y[i], all[0].Y[i]-y)
		}
		t.Logf("%s differs from fp32 by at most %.3f", s.Name, worst)
		if worst > typeTolerance {
			t.Errorf("%s differs from fp32 by %.3f", s.Name, worst)
		}
	}
	if os.Getenv("SHOAL_COOKBOOK") == "write" {
		if err := os.WriteFile(filepath.Join(back, "types.svg"), report.SVG("full: loss by dtype", all), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
