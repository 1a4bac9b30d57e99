// Command memory trains a LoRA on a frozen model of Qwen2-0.5B's shape in a process of its own and prints, as a JSON line,
// the most anonymous memory that the process had.
//
//	go build -o /tmp/shoal ./cmd/shoal && go run ./trainer/trainbench/memory -shoal /tmp/shoal
//
// The weights are random and written once, to a directory that later runs find again. Memory is RssAnon of
// /proc/PID/status, looked at every 20 ms: what a process has to itself, without the pages of files, which the system
// takes back when it needs them.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// qwen is Qwen2-0.5B.
var qwen = tiny.Shape{Type: "qwen2", Hidden: 896, Inner: 4864, Layers: 24, Heads: 14, KVHeads: 2, Vocab: 151936,
	Context: 32768, Tied: true, DType: safetensors.BF16}

// llama has 557 million weights, of which no unit is more than a thirteenth: what daemons of 700 MB fine-tune together.
var llama = tiny.Shape{Type: "llama", Hidden: 1280, Inner: 3456, Layers: 24, Heads: 20, KVHeads: 20, Vocab: 32000,
	Context: 2048, DType: safetensors.BF16}

// options say what to train.
type options struct {
	shoal, dir, dtype string
	layers, tokens    int
	steps             int
	checkpoint        bool
	trace             bool
}

// result is what was measured, in bytes.
type result struct {
	Name   string  `json:"name"`
	Base   int64   `json:"base"` // of the weights as they lie in the file
	Peak   int64   `json:"peak"` // most RssAnon
	Bar    int64   `json:"bar"`  // 1.25 times the base and 400 MB
	Ratio  float64 `json:"ratio"`
	Within bool    `json:"within"`
}

func main() {
	var o options
	flag.StringVar(&o.shoal, "shoal", "shoal", "`path` of the program to measure")
	flag.StringVar(&o.dir, "dir", filepath.Join(os.TempDir(), "shoal-memory"), "`directory` of model, rows and result")
	flag.StringVar(&o.dtype, "dtype", "bf16", "the job's dtype")
	flag.IntVar(&o.layers, "layers", qwen.Layers, "layers of the model")
	flag.IntVar(&o.tokens, "tokens", 512, "tokens of a row")
	flag.IntVar(&o.steps, "steps", 2, "steps to train")
	flag.BoolVar(&o.checkpoint, "checkpoint", false, "gradient checkpointing")
	flag.BoolVar(&o.trace, "trace", false, "print memory over time to standard error")
	large := flag.String("write-large", "", "write a bf16 Llama of 557 million weights to this `directory`, and do nothing else")
	flag.Parse()
	if *large != "" {
		if err := tiny.Write(*large, llama, 7); err != nil {
			fmt.Fprintln(os.Stderr, "memory:", err)
			os.Exit(1)
		}
		return
	}
	r, err := measure(o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

func measure(o options) (r result, err error) {
	base, err := model(o)
	if err != nil {
		return r, err
	}
	spec, err := job(o, base)
	if err != nil {
		return r, err
	}
	info, err := os.Stat(filepath.Join(base, safetensors.SingleFile))
	if err != nil {
		return r, err
	}
	r = result{Name: fmt.Sprintf("qwen2 of %d layers, T %d, %s, checkpointing %v", o.layers, o.tokens, o.dtype, o.checkpoint), Base: info.Size()}
	r.Peak, err = watch(exec.Command(o.shoal, "train", "--local", "-f", spec, "-o", filepath.Join(o.dir, "result")), o.trace)
	r.Bar = r.Base*5/4 + 400e6
	r.Ratio, r.Within = float64(r.Peak)/float64(r.Base), r.Peak <= r.Bar
	return r, err
}

// model writes the base unless it is there.
func model(o options) (dir string, err error) {
	dir = filepath.Join(o.dir, fmt.Sprintf("qwen2-%d", o.layers))
	if _, err := os.Stat(filepath.Join(dir, safetensors.SingleFile)); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	shape := qwen
	shape.Layers = o.layers
	return dir, tiny.Write(dir, shape, 1)
}

// job writes rows, whose tokens are bytes, and the spec.
func job(o options, base string) (path string, err error) {
	var rows strings.Builder
	for i := range 4 {
		text := strings.Repeat(strconv.Itoa(i)+" fish swim where the water is warm; ", o.tokens/30+1)[:o.tokens-2]
		fmt.Fprintf(&rows, "{\"text\": %q}\n", text)
	}
	data := filepath.Join(o.dir, "rows.jsonl")
	if err := os.WriteFile(data, []byte(rows.String()), 0o644); err != nil {
		return "", err
	}
	spec, err := json.Marshal(map[string]any{"version": "shoal/v1", "base_model": base, "adapter": "lora", "lora_r": 16, "lora_alpha": 32,
		"lora_target_linear": true, "dtype": o.dtype, "gradient_checkpointing": o.checkpoint, "sequence_len": o.tokens,
		"optimizer": map[string]any{"lr": 2e-4}, "micro_batch_size": 1, "global_batch_size": 1, "max_steps": o.steps,
		"datasets": []map[string]any{{"path": data, "type": "text"}}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.dir, "job.json")
	return path, os.WriteFile(path, spec, 0o644)
}

// watch runs a command and returns the most anonymous memory it had.
func watch(cmd *exec.Cmd, trace bool) (peak int64, err error) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	told := began
	for {
		select {
		case err := <-ended:
			return peak, err
		case <-tick.C:
		}
		now := anonymous(cmd.Process.Pid)
		if peak = max(peak, now); trace && time.Since(told) > 200*time.Millisecond {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%6.2f s %5d MB, at most %5d MB\n", time.Since(began).Seconds(), now/1e6, peak/1e6)
		}
	}
}

// anonymous is what a process has to itself, in bytes; 0 when it has ended.
func anonymous(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}
