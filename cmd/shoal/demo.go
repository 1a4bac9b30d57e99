package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/generate"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// Sizes of the demo, chosen by measuring: on two idle cores of 2024 the base takes 18 s and the swarm 8 s, on two that
// others use as well three times as long.
const (
	demoNodes    = 4
	demoBase     = 1100 // optimizer steps of the base model
	demoSteps    = 240  // of the swarm
	demoKill     = 90   // step at which a node is killed
	demoVictim   = 2    // which: neither the submitter nor the node that the others started from
	demoQuestion = 50   // held-out questions
)

func (a *app) demoCmd() *cobra.Command {
	var keep bool
	var parent string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "four nodes fine-tune a small model, one is killed in mid-run",
		Long: `Makes a small base model by a few seconds of training on dates, starts four daemons as processes of their own on
loopback, and fine-tunes the model on the swarm to answer in another form: 2024-03-07 => 7 March 2024. One daemon is
killed on the way. At the end the held-out questions are asked again. Everything lies in a temporary directory.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			dir, err := os.MkdirTemp(parent, "shoal-demo-")
			if err != nil {
				return err
			}
			d := &demo{app: a, dir: dir, start: time.Now()}
			defer func() {
				err = errors.Join(err, d.stop())
				if keep {
					d.say("kept %s: base is the model, task.jsonl the rows, adapter the result", dir)
				} else {
					err = errors.Join(err, os.RemoveAll(dir))
				}
			}()
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the temporary directory for a look")
	cmd.Flags().StringVar(&parent, "in", "", "make the temporary directory here (default: the system's place)")
	return cmd
}

// demo is one run of it.
type demo struct {
	*app
	dir   string
	start time.Time
	nodes []*demoNode
}

// demoResult is the answer of demo --json.
type demoResult struct {
	Before  float64      `json:"before"` // share of held-out questions answered exactly
	After   float64      `json:"after"`
	Samples []demoAnswer `json:"samples"`
	Seconds float64      `json:"seconds"`
}

func (d *demo) run(ctx context.Context) error {
	d.chapter("a base model from nothing, and rows of dates")
	held, err := writeDates(d.dir)
	if err != nil {
		return err
	}
	if err := d.makeBase(ctx); err != nil {
		return err
	}
	before, err := d.ask(ctx, held, "")
	if err != nil {
		return err
	}
	d.say("before: %d of %d held-out questions answered right", right(before), len(before))

	d.chapter("%d nodes, each a process with a home of its own", demoNodes)
	if err := d.startNodes(ctx); err != nil {
		return err
	}
	d.chapter("fine-tuning on the swarm: LoRA on all linear layers, %d steps", demoSteps)
	if err := d.train(ctx); err != nil {
		return err
	}
	after, err := d.ask(ctx, held, d.path("adapter"))
	if err != nil {
		return err
	}
	return d.show(before, after)
}

// chapter tells what comes now.
func (d *demo) chapter(format string, args ...any) {
	d.say("\n[%3.0f s] %s", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// makeBase trains all weights of a tiny Llama on sentences about dates, none of them in the form that the swarm will
// teach.
func (d *demo) makeBase(ctx context.Context) error {
	shape := tiny.Shape{Type: "llama", Hidden: 64, Inner: 192, Layers: 2, Heads: 4, KVHeads: 4, Context: 128, Tied: true}
	if err := os.Mkdir(d.path("empty"), 0o755); err != nil {
		return err
	}
	if err := tiny.Write(d.path("empty"), shape, 1); err != nil {
		return err
	}
	spec := job.Spec{
		Version: job.Version, Name: "demo-base", BaseModel: d.path("empty"), Adapter: job.AdapterNone,
		Datasets: []job.Dataset{{Path: d.path("text.jsonl")}}, MicroBatchSize: 16, MaxSteps: demoBase,
		Optimizer:   job.Optimizer{LR: 3e-3, Betas: []float64{0.9, 0.98}, WeightDecay: 0.01},
		LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 100, MinLRRatio: 0.05},
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	_, err := d.runLocal(ctx, &prepare.Sources{}, spec, "cpu", d.path("base"))
	return err
}

func (d *demo) loraSpec() job.Spec {
	return job.Spec{
		Version: job.Version, Name: "dates", BaseModel: d.path("base"),
		Adapter: job.AdapterLora, LoraR: 8, LoraAlpha: 16, LoraTargetLinear: true,
		Datasets: []job.Dataset{{Path: d.path("task.jsonl")}}, MicroBatchSize: 8, GlobalBatchSize: 32, MaxSteps: demoSteps,
		Optimizer:   job.Optimizer{LR: 5e-3},
		LRScheduler: job.Scheduler{Name: job.Cosine, WarmupSteps: 5, MinLRRatio: 0.05},
		Swarm:       job.Swarm{MinPeers: demoNodes},
	}
}

// train submits the job to the first node, kills another on the way, and brings the adapter home.
func (d *demo) train(ctx context.Context) error {
	c := d.nodes[0].client()
	j, err := c.Submit(ctx, d.loraSpec(), func(string, int64, int64) {})
	if err != nil {
		return err
	}
	killed := false
	err = d.follow(ctx, c, j, d.path("adapter"), func(p *progress, r trainer.StepReport) {
		if r.Step >= demoKill && !killed {
			killed = true
			v := d.nodes[demoVictim]
			v.kill()
			p.note("killed node %d (%s) without a word; the other %d go on", demoVictim+1, short(v.id), demoNodes-1)
		}
	})
	if err != nil {
		return err
	}
	return d.download(ctx, c, j.ID, api.ResultRequest{}, d.path("adapter"))
}

// demoAnswer is a question and what the model said.
type demoAnswer struct {
	Question string `json:"question"`
	Want     string `json:"want"`
	Got      string `json:"got"`
}

// ask puts the held-out questions to the base model, with the adapter over it if there is one.
func (d *demo) ask(ctx context.Context, held []demoAnswer, adapter string) (out []demoAnswer, err error) {
	f := modelFlags{model: d.path("base"), adapter: adapter, device: "cpu"}
	err = d.withSpeaker(ctx, f, func(s *speaker) error {
		for _, q := range held {
			g, err := s.say(ctx, q.Question, generate.Options{MaxTokens: 24}, func(string) {})
			if err != nil {
				return err
			}
			q.Got = g.Text
			out = append(out, q)
		}
		return nil
	})
	return out, err
}

func right(as []demoAnswer) (n int) {
	for _, q := range as {
		if q.Got == q.Want {
			n++
		}
	}
	return n
}

func (d *demo) show(before, after []demoAnswer) error {
	d.chapter("done")
	r := demoResult{
		Before: float64(right(before)) / float64(len(before)), After: float64(right(after)) / float64(len(after)),
		Samples: after[:2], Seconds: time.Since(d.start).Seconds(),
	}
	return d.answer(r, func(w io.Writer) {
		fmt.Fprintf(w, "held-out questions answered exactly right: %.0f %% before, %.0f %% after fine-tuning\n", 100*r.Before, 100*r.After)
		for i, q := range r.Samples {
			fmt.Fprintf(w, "  %s\n    before: %s\n    after:  %s\n", q.Question, firstLine(before[i].Got), firstLine(q.Got))
		}
	})
}

func firstLine(s string) string {
	for i, r := range s {
		if r < ' ' {
			return s[:i] + "…"
		}
	}
	return s
}
