package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// trainFlags are the flags of train.
type trainFlags struct {
	file   string
	set    []string
	out    string
	detach bool
	local  bool
	device string
}

func (a *app) trainCmd() *cobra.Command {
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "train -f job.yaml",
		Short: "fine-tune on the swarm, or in this process with --local",
		Long: `Submits a job to the daemon, follows it, and writes the result (a PEFT adapter or a model directory) and
metrics.jsonl to the output directory. If the daemon goes away, train looks for it for 60 s; the job itself goes on
without it, and "shoal job logs -f" and "shoal export" take over.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, written, err := f.spec()
			if err != nil {
				return err
			}
			if !f.detach { // with it, nothing is written here
				if err := checkOutput(f.dir(spec), inputs(spec)); err != nil {
					return err
				}
			}
			if f.local {
				return a.trainLocal(cmd.Context(), spec, f)
			}
			return a.trainSwarm(cmd.Context(), written, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "job spec, YAML or JSON; - reads standard input")
	fl.StringArrayVar(&f.set, "set", nil, "override a key, as optimizer.lr=1e-4; may repeat")
	fl.StringVarP(&f.out, "output", "o", "", "directory of the result: new, empty, or of an earlier result (default: the job's name)")
	fl.BoolVar(&f.detach, "detach", false, "submit and return at once")
	fl.BoolVar(&f.local, "local", false, "train in this process, without daemon and network")
	fl.StringVar(&f.device, "device", "auto", "with --local: device to train on")
	return cmd
}

// spec reads the job, applies --set, completes it, and makes the paths it names absolute. written is the same without what
// nobody wrote: a daemon completes that itself, perhaps another version of shoal.
func (f *trainFlags) spec() (spec, written job.Spec, err error) {
	if f.file == "" {
		return spec, written, usagef("name a job spec with -f job.yaml")
	}
	if f.local && f.detach {
		return spec, written, usagef("--detach needs a daemon, --local does without: choose one")
	}
	written, err = job.Load(f.file)
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return spec, written, err
	} else if err != nil {
		return spec, written, usageError{err}
	}
	for _, kv := range f.set {
		if err := written.Set(kv); err != nil {
			return spec, written, usagef("--%w", err)
		}
	}
	spec = written
	if err := spec.Validate(); err != nil {
		return spec, written, usagef("%s: %w", f.file, err)
	}
	written.Name = spec.Name
	makeAbsolute(&spec)
	makeAbsolute(&written)
	return spec, written, nil
}

func makeAbsolute(spec *job.Spec) {
	spec.BaseModel = absolute(spec.BaseModel)
	spec.LoraModelDir = absolute(spec.LoraModelDir)
	for i := range spec.Datasets {
		spec.Datasets[i].Path = absolute(spec.Datasets[i].Path)
	}
	for i := range spec.Eval.Tasks {
		spec.Eval.Tasks[i].Path = absolute(spec.Eval.Tasks[i].Path)
	}
	spec.Eval.BaseText = absolute(spec.Eval.BaseText)
}

// absolute turns the path of something that is there into one that the daemon finds too; other words (names, hf:…)
// stay as they are.
func absolute(path string) string {
	if path == "" {
		return path
	}
	if _, err := os.Stat(path); err != nil {
		return path
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}

// dir is where the result goes.
func (f *trainFlags) dir(spec job.Spec) string {
	switch {
	case f.out != "":
		return f.out
	case spec.Name != "":
		return spec.Name
	}
	return "shoal-result"
}

func (a *app) trainSwarm(ctx context.Context, spec job.Spec, f trainFlags) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	p := a.progress(0)
	j, err := c.Submit(ctx, spec, p.long)
	p.end()
	if err != nil {
		return olderDaemon(ctx, c, err)
	}
	if f.detach {
		return a.answer(j, func(w io.Writer) { fmt.Fprintln(w, j.ID) })
	}
	a.say("job %s: %s", j.ID, plural(int(j.Steps), "step"))
	dir := f.dir(spec)
	if err := a.follow(ctx, c, j, dir, nil); err != nil {
		switch {
		case ctx.Err() != nil:
			a.say("the job goes on: \"shoal job logs -f %s\" follows it, \"shoal job cancel %s\" ends it", j.ID, j.ID)
		case errors.Is(err, api.ErrDown):
			a.say("when the daemon is back, \"shoal job logs -f %s\" follows the job and \"shoal export\" writes its result", j.ID)
		}
		return err
	}
	if err := a.download(ctx, c, j.ID, api.ResultRequest{}, dir); err != nil {
		return err
	}
	return a.trained(ctx, c, j.ID, dir)
}

// olderDaemon explains the refusal of a key that this program knows: it has read the spec before the daemon did.
func olderDaemon(ctx context.Context, c *api.Client, err error) error {
	if e, ok := errors.AsType[*api.Error](err); !ok || !strings.Contains(e.Message, "unknown key") {
		return err
	}
	theirs := "another version"
	if i, err := c.Info(ctx); err == nil {
		theirs = i.Version
	}
	return fmt.Errorf("the daemon (%s) does not know all that this shoal (%s) does: %w; start the daemon again with this program, or leave the key out", theirs, node.Version(), err)
}

// trained prints where the result is.
func (a *app) trained(ctx context.Context, c *api.Client, id, dir string) error {
	j, err := c.Job(ctx, id)
	if err != nil {
		return err
	}
	v := struct {
		api.Job
		Dir string `json:"dir"`
	}{j, dir}
	return a.answer(v, func(w io.Writer) { fmt.Fprintln(w, dir) })
}

// follow shows a job until it is done and keeps DIR/metrics.jsonl complete; a job that learned nothing is an error.
// each, if not nil, hears of every step.
func (a *app) follow(ctx context.Context, c *api.Client, j api.Job, dir string, each func(*progress, trainer.StepReport)) error {
	m, err := newMetrics(dir, j.Name, j.Spec.Report)
	if err != nil {
		return err
	}
	p := a.progress(j.Steps)
	defer p.end()
	state, why := j.State, j.Why
	lost := func(err error) { p.note("%v; trying again for %v", err, api.Patience) }
	err = c.Follow(ctx, j.ID, 0, api.Patience, lost, func(e api.Event) error {
		switch e.Kind {
		case api.EventStep:
			p.step(*e.Step)
			if each != nil {
				each(p, *e.Step)
			}
			return m.add(*e.Step)
		case api.EventBack:
			p.note("back to step %d", e.To)
			return m.back(e.To)
		case api.EventEval:
			p.note("%s", evalLine(e.Eval))
			return m.eval(*e.Eval)
		case api.EventNote:
			p.note("%s", shortIDs(e.Text))
		case api.EventState:
			state, why = e.State, e.Text
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case state != api.Done:
		return errors.New("job " + state + orEmpty(": ", why))
	}
	if err := m.wasted(); err != nil {
		return err
	}
	return m.diverged()
}

func orEmpty(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}
