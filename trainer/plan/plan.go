// Package plan says how a job's model is spread over nodes: which runs of units become stages, which nodes hold each,
// how much memory and traffic that takes, and how long a step is expected to last. It refuses what cannot be done, and says
// why. It is pure: the same job and the same nodes give the same plan everywhere.
//
// Words. A unit is the embedding, a transformer block or the head; a stage is a run of them; its replicas are the nodes that
// each hold all of it. A micro-batch passes through one replica of each stage, forward and back.
//
// Memory is counted, not measured: weights in the type they are kept in, what learns with its gradient and moments, what
// micro-batches on their way keep, and what a process has besides. Times come from what nodes say of themselves, so they are as good as that.
//
// All functions are safe for concurrent use.
package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Unit is what a unit of a model costs.
type Unit struct {
	Frozen  int64   // bytes of weights that do not learn
	Learns  int64   // elements that do
	Forward float64 // operations of a forward pass, per token
	Back    float64 // of a backward pass
	Keep    int64   // bytes per token from its forward pass to its backward pass
	Work    int64   // bytes per token that its passes take besides, for themselves
}

// Job is what a training asks for.
type Job struct {
	Units  []Unit
	Shared Unit // the token table that the first and the last unit share; weights alone
	Hidden int  // width of the residual stream
	Vocab  int

	Tokens int // of a micro-batch, at most
	Micros int // micro-batches of a step

	PerLearned int     // bytes of device memory for an element that learns: weight, gradient, moments, copies
	State      int     // of these, what the optimizer remembers
	OnHost     int     // bytes of host memory besides: contribution, result
	Every      int     // diloco: steps between exchanges; 0: none are apart
	Stream     float64 // bytes of an element of the residual stream on its way between stages
	Gradient   float64 // bytes of an element of a gradient on its way
	Adapter    bool    // what learns is an adapter's, and stays on the device whatever else comes and goes
	Rerun      bool    // gradient checkpointing: blocks keep their input alone and run again
}

// Node is what a node offers.
type Node struct {
	Name   string        `json:"name"`
	Memory int64         `json:"memory"`             // bytes that the job may have
	Flops  float64       `json:"flops"`              // operations per second that products of this model's size reach
	Rate   float64       `json:"rate"`               // bytes per second of its line, up or down
	Delay  time.Duration `json:"delay_ns,omitempty"` // to the others, one way
	Pace   time.Duration `json:"pace_ns,omitempty"`  // for Arrange, where Flops is 0: of a micro-batch in a unit of mean costs, both ways
}

// Want is what the spec says about it; zero fields leave the choice to the plan.
type Want struct {
	Stages  int
	Tensor  int    // 0 is 1
	Zero    int    // 0 to 3
	Offload string // "", none, cpu or disk
	Flow    bool   // a pipeline even where it has one stage; more stages always are
}

// base is what a process has besides: code, Go heap, network. A daemon at rest has 50 to 90 MB.
const base = 96 << 20 // bytes

// ErrInfeasible is wrapped by every refusal of a plan.
var ErrInfeasible = errors.New("this cannot be done with these nodes")

// Stage is a run of units and who holds it.
type Stage struct {
	Lo       int       `json:"lo"` // units [Lo, Hi)
	Hi       int       `json:"hi"`
	Weights  int64     `json:"weight_bytes"` // of one replica
	Learns   int64     `json:"trained"`      // elements
	Memory   int64     `json:"memory_bytes"` // that each replica needs, in all
	Live     int       `json:"live"`         // micro-batches that are alive there at most
	Replicas []Replica `json:"replicas"`
}

// Replica is a node with its share of the micro-batches.
type Replica struct {
	Node   string        `json:"node"`
	Memory int64         `json:"memory_bytes"` // that it has
	Micros int           `json:"micros"`
	Pace   time.Duration `json:"pace_ns"` // of a micro-batch, both ways
}

// Plan is how a job is spread.
type Plan struct {
	Stages  []Stage       `json:"stages"`
	Unused  []string      `json:"unused,omitempty"` // nodes that no stage fits on
	Tensor  int           `json:"tensor"`
	Zero    int           `json:"zero"`
	Offload string        `json:"offload,omitempty"`
	Step    time.Duration `json:"step_ns"`    // expected
	Compute time.Duration `json:"compute_ns"` // of it, of the slowest stage
	Fill    time.Duration `json:"fill_ns"`    // filling and draining the pipeline
	Reduce  time.Duration `json:"reduce_ns"`  // adding gradients up
	Sent    int64         `json:"bytes"`      // by all nodes together, per step
	Busiest int64         `json:"node_bytes"` // by the node that sends most
	Bound   string        `json:"bound"`      // what the time is made of, mostly

	flow bool
}

// Make finds the plan with the shortest expected step; of plans within a twentieth the one with fewer stages.
func Make(j Job, nodes []Node, w Want) (*Plan, error) {
	if err := check(j, nodes, &w); err != nil {
		return nil, err
	}
	all := nodes
	nodes = bundles(nodes, w.Tensor)
	lo, hi := 1, min(len(nodes), len(j.Units))
	if j.Every > 1 {
		hi = 1
	}
	if w.Stages != 0 {
		lo, hi = w.Stages, w.Stages
	}
	var best *Plan
	for p := lo; p <= hi; p++ {
		for _, groups := range groupings(nodes, p) {
			if c := fit(j, groups, w); c != nil && (best == nil || better(c, best)) {
				best = c
			}
		}
	}
	if best == nil {
		return nil, refusal(j, nodes, w)
	}
	best.unused(all)
	return best, nil
}

// better prefers less time, unless more stages buy less than a twentieth of it.
func better(a, b *Plan) bool {
	if len(a.Stages) > len(b.Stages) {
		return float64(a.Step) < 0.95*float64(b.Step)
	}
	return a.Step < b.Step
}

// lan is what tensor parallelism asks of a line: an all-reduce per product waits for its delay each time.
const (
	lanDelay = time.Millisecond
	lanRate  = 100e6 // bytes per second
)

func check(j Job, nodes []Node, w *Want) error {
	w.Tensor = max(w.Tensor, 1)
	switch {
	case len(nodes) == 0:
		return fmt.Errorf("%w: there are none", ErrInfeasible)
	case len(j.Units) == 0 || j.Tokens < 1 || j.Micros < 1:
		return fmt.Errorf("%w: the job has nothing to compute", ErrInfeasible)
	case w.Stages > len(j.Units):
		return fmt.Errorf("%w: %d stages of a model of %d units; set parallel.pipeline to %d at most", ErrInfeasible, w.Stages, len(j.Units), len(j.Units))
	case w.Stages > 1 && j.Every > 1:
		return fmt.Errorf("%w: members of a diloco job hold the whole model; leave parallel.pipeline or sync out", ErrInfeasible)
	case max(w.Stages, 1)*w.Tensor > len(nodes):
		return fmt.Errorf("%w: parallel.pipeline %d times parallel.tensor %d are more than the %d nodes", ErrInfeasible, max(w.Stages, 1), w.Tensor, len(nodes))
	}
	for _, n := range nodes {
		if n.Flops <= 0 || n.Memory <= 0 || len(nodes) > 1 && n.Rate <= 0 || n.Delay < 0 {
			return fmt.Errorf("%w: node %q does not say its memory, flops and rate", ErrInfeasible, n.Name)
		}
		if w.Tensor > 1 && (n.Delay > lanDelay || n.Rate < lanRate) {
			return fmt.Errorf("%w: parallel.tensor waits for the others twice in each layer, and %q is %v away at %.0f Mbit/s; it takes a LAN of %v and %.0f Mbit/s: set parallel.tensor to 1 and use parallel.pipeline",
				ErrInfeasible, n.Name, n.Delay, n.Rate*8/1e6, lanDelay, lanRate*8/1e6)
		}
	}
	return nil
}

// unused names the nodes that are in no stage.
func (p *Plan) unused(nodes []Node) {
	in := map[string]bool{}
	for _, s := range p.Stages {
		for _, r := range s.Replicas {
			for _, name := range strings.Split(r.Node, joint) {
				in[name] = true
			}
		}
	}
	for _, n := range nodes {
		if !in[n.Name] {
			p.Unused = append(p.Unused, n.Name)
		}
	}
}
