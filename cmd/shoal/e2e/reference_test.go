package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
)

// refDir is the folder of reference data beside the checkout; tests that need it skip where it is absent.
func refDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../../../shared/data")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "reference/stories260K/meta.json"))
	}
	if err != nil {
		t.Skipf("reference data is not here (%v)", err)
	}
	return dir
}

// curve is a 50-step reference run.
type curve struct {
	F64 struct {
		Loss []float64 `json:"loss_before_step"`
		Norm []float64 `json:"grad_norm_before_clip"`
	} `json:"f64"`
}

type reference struct {
	Generation []struct {
		Prompt    string  `json:"prompt"`
		Generated []int32 `json:"generated_ids"`
	} `json:"generation"`
	LoRA curve `json:"lora"`
	Full curve `json:"full"`
}

func loadReference(t *testing.T, dir string) reference {
	t.Helper()
	var r reference
	b, err := os.ReadFile(filepath.Join(dir, "reference/stories260K/meta.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// writeRows writes train_ids as pre-tokenized JSONL.
func writeRows(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "reference/stories260K/data.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st, err := safetensors.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	ids, rows, cols := readInts(t, st, "train_ids")
	path := filepath.Join(t.TempDir(), "train.jsonl")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(out)
	for r := range rows {
		line, _ := json.Marshal(map[string][]int64{"input_ids": ids[r*cols : (r+1)*cols]})
		fmt.Fprintf(w, "%s\n", line)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	return path
}

// Bars of parity with the reference curves, per step.
const (
	mustLoss = 1e-4
	aimLoss  = 1e-5
	mustNorm = 1e-3 // relative
)

type metric struct {
	Step     uint64  `json:"step"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	LR       float64 `json:"lr"`
	Tokens   int64   `json:"tokens"`
	Peers    int     `json:"peers"`
}

func readMetrics(dir string) ([]metric, error) {
	b, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		return nil, err
	}
	var ms []metric
	for _, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var m metric
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("metrics.jsonl line %q: %w", line, err)
		}
		ms = append(ms, m)
	}
	return ms, nil
}

// checkCurve compares DIR/metrics.jsonl with a reference run, step by step.
func checkCurve(t *testing.T, dir string, want curve, maxLoss float64) {
	t.Helper()
	ms, err := readMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(ms) != len(want.F64.Loss) {
		t.Fatalf("metrics.jsonl has %d steps, want %d", len(ms), len(want.F64.Loss))
	}
	var worst, worstNorm float64
	for i, m := range ms {
		if m.Step != uint64(i+1) || m.Tokens != 508 {
			t.Errorf("line %d: step %d with %d tokens, want step %d with 508", i+1, m.Step, m.Tokens, i+1)
		}
		worst = math.Max(worst, math.Abs(m.Loss-want.F64.Loss[i]))
		worstNorm = math.Max(worstNorm, math.Abs(m.GradNorm/want.F64.Norm[i]-1))
	}
	t.Logf("largest difference over %d steps: loss %.2g, gradient norm %.2g (relative)", len(ms), worst, worstNorm)
	if worst > maxLoss {
		t.Errorf("loss differs by %g, bar %g", worst, maxLoss)
	} else if worst > aimLoss && maxLoss == mustLoss {
		t.Logf("warning: loss differs by %g, aim %g", worst, aimLoss)
	}
	if maxLoss == mustLoss && worstNorm > mustNorm {
		t.Errorf("gradient norm differs by %g, bar %g", worstNorm, mustNorm)
	}
}

// writeSpec writes the job of a reference run and returns its path.
func writeSpec(t *testing.T, dir string, lora bool, rows string, extra string) string {
	t.Helper()
	common := fmt.Sprintf(`version: shoal/v1
name: parity
base_model: %s
datasets: [{path: %s}]
shuffle: false
micro_batch_size: 1
global_batch_size: 4
max_steps: 50
`, filepath.Join(dir, "models/stories260K"), rows)
	if lora {
		common += fmt.Sprintf(`adapter: lora
lora_model_dir: %s
max_grad_norm: 0
optimizer: {name: adamw, lr: 2e-3}
lr_scheduler: {name: constant}
`, loraInit(t, dir))
	} else {
		common += `adapter: none
max_grad_norm: 1.0
optimizer: {name: adamw, lr: 1e-3, betas: [0.9, 0.95], weight_decay: 0.1, no_decay: []}
lr_scheduler: {name: cosine, warmup_steps: 5, min_lr_ratio: 0.1}
`
	}
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(common+extra), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// loraInit lays the reference's start adapter out as PEFT does.
func loraInit(t *testing.T, dir string) string {
	t.Helper()
	out := t.TempDir()
	for src, dst := range map[string]string{"lora_init.safetensors": "adapter_model.safetensors", "adapter_config.json": "adapter_config.json"} {
		b, err := os.ReadFile(filepath.Join(dir, "reference/stories260K", src))
		if err == nil {
			err = os.WriteFile(filepath.Join(out, dst), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// readInts reads a matrix of integers.
func readInts(t *testing.T, f *safetensors.File, name string) (v []int64, rows, cols int) {
	t.Helper()
	info, ok := f.Tensor(name)
	if !ok || len(info.Shape) != 2 {
		t.Fatalf("%s is not a matrix of the file", name)
	}
	v = make([]int64, info.Elems())
	if err := f.ReadI64(name, v); err != nil {
		t.Fatal(err)
	}
	return v, int(info.Shape[0]), int(info.Shape[1])
}
