package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/plan"
)

// planFlags are the flags of plan.
type planFlags struct {
	trainFlags
	nodes  string
	count  int
	tokens int
	gflops float64
}

func (a *app) planCmd() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan -f job.yaml",
		Short: "how a job would be spread over nodes: stages, memory, traffic, time",
		Long: `Says which part of the model each node would hold, how much memory that takes, what a step sends and how long it is
expected to last; or why it cannot be done. parallel.pipeline: auto leaves the number of stages to the plan.

The nodes are those of --nodes, a JSON list with name, memory ("700MB", or bytes), gflops, mbit and delay_ms of each; without it
--count nodes like this machine, whose products are measured.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.plan(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "job spec, YAML or JSON; - reads standard input")
	fl.StringArrayVar(&f.set, "set", nil, "override a key, as parallel.pipeline=3; may repeat")
	fl.StringVar(&f.nodes, "nodes", "", "JSON file of nodes")
	fl.IntVar(&f.count, "count", 1, "without --nodes: how many nodes like this one")
	fl.IntVar(&f.tokens, "tokens", 0, "tokens of a row, where the spec has no sequence_len (default 512, or what the model takes)")
	fl.Float64Var(&f.gflops, "gflops", 0, "without --nodes: speed of the nodes' products; 0: this machine's, measured, to a power of two")
	return cmd
}

// planned is the answer of plan.
type planned struct {
	*plan.Plan
	Tokens int     `json:"tokens"` // of a micro-batch
	Micros int     `json:"micros"`
	Note   string  `json:"note,omitempty"`   // what this version's swarms cannot do yet
	GFlops float64 `json:"gflops,omitempty"` // without --nodes: what the nodes' products are taken to reach
}

func (a *app) plan(ctx context.Context, f planFlags) error {
	spec, want, note, err := f.wanted()
	if err != nil {
		return err
	}
	if f.tokens < 0 {
		return usagef("--tokens %d is below 0", f.tokens)
	}
	nodes, err := f.planNodes()
	if err != nil {
		return err
	}
	var j plan.Job
	err = a.withSources(func(src *prepare.Sources) (err error) {
		j, err = a.costs(ctx, src, spec, f.tokens)
		return err
	})
	if err != nil {
		return err
	}
	want.Zero = zero(spec, j, want.Zero)
	p, err := plan.Make(j, nodes, want)
	if err != nil {
		return err
	}
	v := planned{p, j.Tokens, j.Micros, note, 0}
	if f.nodes == "" {
		v.GFlops = nodes[0].Flops / ofProducts / 1e9
	}
	return a.answer(v, v.text)
}

// wanted reads the spec. What this version's swarms refuse is planned all the same, with a note.
func (f *planFlags) wanted() (spec job.Spec, w plan.Want, note string, err error) {
	if f.file == "" {
		return spec, w, "", usagef("name a job spec with -f job.yaml")
	}
	spec, err = job.Load(f.file)
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return spec, w, "", err
	} else if err != nil {
		return spec, w, "", usageError{err}
	}
	for _, kv := range f.set {
		if err := spec.Set(kv); err != nil {
			return spec, w, "", usagef("--%w", err)
		}
	}
	if w, err = wantOf(spec.Parallel); err != nil {
		return spec, w, "", usageError{err}
	}
	checked := spec
	first := checked.Validate()
	if first == nil {
		return checked, w, "", nil
	}
	p := &spec.Parallel
	p.Pipeline, p.Tensor, p.Zero, p.Offload, p.MirrorRounds, p.Chunks = "", 0, "", "", 0, 0
	if err := spec.Validate(); err != nil {
		return spec, w, "", usagef("%s: %w", f.file, err)
	}
	return spec, w, "the swarms of this version refuse it: " + first.Error(), nil
}

// automatic is the number for "auto", until the plan has one.
const automatic = -1

func wantOf(p job.Parallel) (w plan.Want, err error) {
	number := func(key, text string, least, most int) (int, error) {
		switch text {
		case "":
			return least, nil
		case job.Auto:
			return automatic, nil
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("%s is %.40q; choose auto or %d to %d", key, text, least, most)
		}
		return n, nil
	}
	if w.Stages, err = number("parallel.pipeline", p.Pipeline, 1, 1<<12); err != nil {
		return w, err
	}
	if w.Stages == automatic {
		w.Stages = 0
	}
	if w.Zero, err = number("parallel.zero", p.Zero, 0, 3); err != nil {
		return w, err
	}
	switch p.Offload {
	case "", job.None, job.OffloadCPU, job.OffloadDisk:
	default:
		return w, fmt.Errorf("parallel.offload is %.40q; choose none, cpu or disk", p.Offload)
	}
	w.Tensor, w.Offload = p.Tensor, p.Offload
	return w, nil
}

// zero is what auto means: cut the optimizer's state where it is worth the traffic.
func zero(spec job.Spec, j plan.Job, asked int) int {
	if asked != automatic {
		return asked
	}
	learns := j.Shared.Learns
	for _, u := range j.Units {
		learns += u.Learns
	}
	if learns*4 < 64<<20 {
		return 0
	}
	return 2
}

// costs opens the descriptions of the job's model and adapter.
func (a *app) costs(ctx context.Context, src *prepare.Sources, spec job.Spec, tokens int) (j plan.Job, err error) {
	p := a.progress(0)
	defer p.end()
	m, err := src.Model(ctx, spec.BaseModel, p.long)
	if err != nil {
		return j, err
	}
	var adapter model.Files
	if spec.LoraModelDir != "" {
		d, err := src.Model(ctx, spec.LoraModelDir, p.long)
		if err != nil {
			return j, err
		}
		adapter = d.Files
	}
	return trainer.Costs(&spec, m.Files, adapter, tokens)
}

// maxNodes bounds a file of nodes.
const maxNodes = 4096

// nodeLine is a node as the file has it.
type nodeLine struct {
	Name    string  `json:"name"`
	Memory  amount  `json:"memory"`
	GFlops  float64 `json:"gflops"`
	Mbit    float64 `json:"mbit"`
	DelayMS float64 `json:"delay_ms"`
}

// amount is a number of bytes, or a text as "700MB".
type amount int64

func (m *amount) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"GB", 1e9}, {"MB", 1e6}} {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n*float64(unit) > 1<<60 {
		return fmt.Errorf("memory %.40q: want bytes, or a text as \"700MB\"", b)
	}
	*m = amount(n * float64(unit))
	return nil
}

func (f *planFlags) planNodes() (nodes []plan.Node, err error) {
	if f.nodes == "" {
		return f.likeThis()
	}
	text, err := os.ReadFile(f.nodes)
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	var lines []nodeLine
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, usagef("%s: %w", f.nodes, err)
	}
	if len(lines) > maxNodes {
		return nil, usagef("%s: %d nodes, at most %d", f.nodes, len(lines), maxNodes)
	}
	seen := map[string]bool{}
	for i, l := range lines {
		if l.Name == "" {
			l.Name = fmt.Sprintf("node%d", i+1)
		}
		if seen[l.Name] {
			return nil, usagef("%s: two nodes are called %q", f.nodes, l.Name)
		}
		seen[l.Name] = true
		nodes = append(nodes, plan.Node{Name: l.Name, Memory: int64(l.Memory), Flops: l.GFlops * 1e9, Rate: l.Mbit * 1e6 / 8,
			Delay: time.Duration(l.DelayMS * float64(time.Millisecond))})
	}
	return nodes, nil
}

// What is taken for nodes like this one where nothing was measured.
const (
	guessedRate  = 100e6 / 8 // bytes per second
	guessedDelay = 10 * time.Millisecond
	ofProducts   = 0.6 // of the speed of products, that a step reaches: a guess
)

// likeThis are nodes like this machine.
func (f *planFlags) likeThis() ([]plan.Node, error) {
	if f.count < 1 || f.count > maxNodes {
		return nil, usagef("--count %d is outside 1 to %d", f.count, maxNodes)
	}
	dev, err := node.OpenDevice("auto")
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	flops := f.gflops * 1e9
	if !(flops > 0) {
		if flops, err = speed(dev); err != nil {
			return nil, err
		}
		flops = math.Exp2(math.Round(math.Log2(flops))) // the same plan again, whatever else the machine does
	}
	var nodes []plan.Node
	for i := range f.count {
		name := "this node"
		if i > 0 {
			name = fmt.Sprintf("like it, %d", i+1)
		}
		nodes = append(nodes, plan.Node{Name: name, Memory: dev.Info().MemBytes, Flops: flops * ofProducts, Rate: guessedRate, Delay: guessedDelay})
	}
	return nodes, nil
}

// speed is the operations per second of a product as training has them.
func speed(dev kernels.Device) (float64, error) {
	const m, n, k = 256, 1024, 1024
	s := kernels.NewStream(dev)
	arena := kernels.NewArena(dev, 16<<20)
	defer arena.Free()
	x, w, y := arena.F32(m, k), arena.F32(n, k), arena.F32(m, n)
	s.Fill(x, 1)
	s.Fill(w, 1)
	best := 0.0
	for range 8 {
		began := time.Now()
		s.MatMul(y, x, w, kernels.MatMul{TB: true, Compute: dtype.F32})
		if err := s.Sync(context.Background()); err != nil {
			return 0, err
		}
		best = max(best, 2*m*n*k/time.Since(began).Seconds())
	}
	return best, nil
}

func (v planned) text(w io.Writer) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "STAGE\tUNITS\tWEIGHTS\tTRAINED\tALIVE\tNODE\tNEEDS\tHAS\tMICRO-BATCHES\tEACH TAKES")
	for i, s := range v.Stages {
		for k, r := range s.Replicas {
			head := "\t\t\t\t"
			if k == 0 {
				head = fmt.Sprintf("%d\t%s\t%s\t%d\t%d", i, units(s, v.last()), plan.MB(s.Weights), s.Learns, s.Live)
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%d\t%v\n", head, r.Node, plan.MB(s.Memory), plan.MB(r.Memory), r.Micros, r.Pace.Round(100*time.Microsecond))
		}
	}
	tab.Flush()
	fmt.Fprintf(w, "\na step of %d micro-batches of %d tokens: %v expected (computing %v, filling the pipeline %v, adding up %v)\n", v.Micros, v.Tokens,
		v.Step.Round(100*time.Microsecond), v.Compute.Round(100*time.Microsecond), v.Fill.Round(100*time.Microsecond), v.Reduce.Round(100*time.Microsecond))
	fmt.Fprintf(w, "sent per step: %s by all, %s by the busiest node; most of the time is %s\n", plan.MB(v.Sent), plan.MB(v.Busiest), v.Bound)
	if len(v.Unused) > 0 {
		fmt.Fprintf(w, "without use: %s\n", strings.Join(v.Unused, ", "))
	}
	if v.GFlops > 0 {
		fmt.Fprintf(w, "nodes are taken to multiply at %.3g gflops; --gflops sets it\n", v.GFlops)
	}
	if v.Note != "" {
		fmt.Fprintln(w, v.Note)
	}
}

func (v planned) last() int { return v.Stages[len(v.Stages)-1].Hi - 1 }

// units says what a stage holds.
func units(s plan.Stage, last int) string {
	var what []string
	if s.Lo == 0 {
		what = append(what, "embedding")
	}
	if lo, hi := max(s.Lo, 1)-1, min(s.Hi, last)-2; hi == lo {
		what = append(what, fmt.Sprintf("block %d", lo))
	} else if hi > lo {
		what = append(what, fmt.Sprintf("blocks %d-%d", lo, hi))
	}
	if s.Hi > last {
		what = append(what, "head")
	}
	return strings.Join(what, ", ")
}
