package e2e

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// methods are specs of each way to adapt a model.
var methods = map[string]string{
	"dora":       "adapter: dora\nlora_target_linear: true\nlora_dropout: 0.1\noptimizer: {lr: 5e-3}\n",
	"ia3":        "adapter: ia3\noptimizer: {lr: 5e-2}\n",
	"bottleneck": "adapter: bottleneck\nbottleneck: {reduction: 4, sites: [attn, mlp], act: silu}\noptimizer: {lr: 5e-3}\n",
	"prefix":     "adapter: prefix\nprefix: {tokens: 8, projection: true}\noptimizer: {lr: 5e-3}\n",
	"prompt":     "adapter: prompt\nprompt: {tokens: 8, init_text: Once upon a time}\noptimizer: {lr: 5e-2}\n",
	"modules":    "adapter: lora\nlora_modules_to_save: [embed_tokens, norm]\noptimizer: {lr: 2e-3}\n",
	"unfrozen":   "unfrozen_parameters: ['model\\.layers\\.4', 'model\\.norm']\noptimizer: {lr: 2e-3}\n",
}

// TestMethods trains with each method on three daemons, whose kernels differ, and in one process: the curves are the
// same. It takes some 15 s, which every run of all tests need not spend: SHOAL_METHODS=1 asks for it.
func TestMethods(t *testing.T) {
	if os.Getenv("SHOAL_METHODS") == "" {
		t.Skip("each method on a real swarm runs only with SHOAL_METHODS=1")
	}
	dir := refDir(t)
	rows := writeRows(t, dir)
	a := newDaemon(t, "--device", "cpu")
	b := newDaemon(t, "--device", "cpu", "--bootstrap", a.addr())
	c := newDaemon(t, "--device", "cpu:avx2", "--bootstrap", a.addr())
	for name, keys := range methods {
		t.Run(name, func(t *testing.T) {
			spec := filepath.Join(t.TempDir(), "job.yaml")
			text := fmt.Sprintf("version: shoal/v1\nname: %s\nbase_model: %s\ndatasets: [{path: %s}]\nglobal_batch_size: 6\nmax_steps: 8\nswarm: {min_peers: 3}\n%s",
				name, filepath.Join(dir, "models/stories260K"), rows, keys)
			if err := os.WriteFile(spec, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			alone, together := t.TempDir(), t.TempDir()
			if _, err := run(time.Minute, shoalBinary(t), "--home", t.TempDir(), "train", "--local", "-f", spec, "-o", alone); err != nil {
				t.Fatal(err)
			}
			if _, err := a.output(2*time.Minute, "train", "-f", spec, "-o", together); err != nil {
				t.Fatal(err)
			}
			checkAgreement(t, lastJob(t, a), 8, a, b, c)
			checkSame(t, together, alone)
		})
	}
}

// checkSame holds the metrics of two runs against each other.
func checkSame(t *testing.T, got, want string) {
	t.Helper()
	a, err := readMetrics(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := readMetrics(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != len(b) {
		t.Fatalf("%d steps, want %d", len(a), len(b))
	}
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(a[i].Loss-b[i].Loss))
	}
	t.Logf("loss %.4f to %.4f, differs by at most %.2g", b[0].Loss, b[len(b)-1].Loss, worst)
	if !(worst < 1e-4) {
		t.Errorf("losses differ by %.2g", worst)
	}
}
