package coord

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

const (
	flowStages = 3
	flowUnits  = 6 // embedding, four blocks, head
)

// pipeline is that of the simulated job: a token table that both ends share, and four blocks.
func (s *swarm) pipeline() *Pipeline {
	return &Pipeline{Units: flowUnits, Of: [][]int{{0, 5}, {1}, {2}, {3}, {4}}[:len(s.g.Chunks)], Arrange: arrangeThree}
}

// arrangeThree makes three stages of two units each. Nodes hold two units at most, so that three of them are needed.
func arrangeThree(nodes []Node, now []Stage) ([]Stage, error) {
	out := []Stage{{Lo: 0, Hi: 2}, {Lo: 2, Hi: 4}, {Lo: 4, Hi: flowUnits}}
	if len(nodes) < flowStages {
		return nil, fmt.Errorf("%d nodes for %d stages", len(nodes), flowStages)
	}
	fewest := func() (best int) {
		for i := range out {
			if len(out[i].Members) < len(out[best].Members) {
				best = i
			}
		}
		return best
	}
	var rest []record.PeerID
	for _, n := range nodes {
		at := slices.IndexFunc(now, func(s Stage) bool { return slices.Contains(s.Members, n.ID) })
		if at < 0 {
			rest = append(rest, n.ID)
			continue
		}
		out[at].Members = append(out[at].Members, n.ID)
	}
	for _, id := range rest {
		to := fewest()
		out[to].Members = append(out[to].Members, id)
	}
	for to := fewest(); len(out[to].Members) == 0; to = fewest() {
		from := slices.IndexFunc(out, func(s Stage) bool { return len(s.Members) > 1 })
		last := len(out[from].Members) - 1
		out[to].Members = append(out[to].Members, out[from].Members[last])
		out[from].Members = out[from].Members[:last]
	}
	return out, nil
}

// flowRun is a member's pipe and its device, whose passes take virtual time.
type flowRun struct {
	*Flow
	m      *pipe.Machine
	stage  int
	over   bool
	sum    []float32
	tokens int64
	done   int
}

// wireFlow is a frame between stages.
type wireFlow struct {
	f     pipe.Frame
	from  record.PeerID
	tries int
}

func (w wireFlow) String() string {
	return fmt.Sprintf("flow %v %d r%d a%d", w.f.Kind, w.f.Micro, w.f.Round, attemptOf(w.f.Attempt))
}

// flowStart is what a worker does with a Start of a pipeline.
func (r *run) flowStart(f *Flow) {
	if f == nil {
		r.flow = nil
		return
	}
	if !f.Begin {
		if r.flow == nil || r.flow.Pipe.Key != f.Pipe.Key {
			r.s.violate("%s is to go on with a pipe of round %d that it has not begun", r.id, f.Pipe.Round)
			return
		}
		r.flow.Flow = f
	} else {
		m, err := pipe.New(f.Pipe, r.id)
		if err != nil {
			r.s.violate("%s: %v", r.id, err)
			return
		}
		r.flow = &flowRun{Flow: f, m: m, sum: make([]float32, r.s.g.Chunks[len(r.s.g.Chunks)-1].Hi)}
		for s, members := range f.Pipe.Stages {
			if slices.ContainsFunc(members, func(x pipe.Member) bool { return x.ID == r.id }) {
				r.flow.stage = s
			}
		}
	}
	for _, id := range f.Lost {
		r.flow.m.Lost(id)
	}
	early := r.early
	r.early = nil
	for _, w := range early {
		r.flowFrame(w)
	}
	r.flowTurn()
}

// flowTurn performs what the pipe wants, and begins the next pass.
func (r *run) flowTurn() {
	fl := r.flow
	if fl == nil {
		return
	}
	for _, e := range fl.m.Effects() {
		switch {
		case e.Finished != nil:
			r.flowFinished(e.Finished.Micro)
		case e.Send != nil:
			r.sim.Send(e.Send.To, wireFlow{e.Send.Frame, r.id, 0}, 64)
		}
	}
	if fl.over || r.hung || !r.ready || r.st.round+1 != fl.Pipe.Round {
		return
	}
	task, ok := fl.m.Task()
	if !ok {
		return
	}
	r.flowCheck(task)
	took := time.Duration(float64(r.s.rows) * float64(fl.Part[1]-fl.Part[0]) / flowUnits / r.rate / 3)
	if task.Back {
		took *= 2
	}
	r.sim.After(took, func() {
		if r.flow == fl {
			fl.m.Computed([]float32{flowValue(fl.stage, task.Micro, task.Back)}, took)
			r.flowTurn()
		}
	})
}

// flowValue is what a stage gives for a micro-batch.
func flowValue(stage int, micro uint32, back bool) float32 {
	v := float32(micro)*16 + float32(stage)
	if back {
		v += 0.5
	}
	return v
}

func (r *run) flowCheck(t pipe.Task) {
	fl := r.flow
	switch {
	case !t.Back && fl.stage > 0 && t.Data[0] != flowValue(fl.stage-1, t.Micro, false),
		t.Back && fl.stage < len(fl.Pipe.Stages)-1 && t.Data[0] != flowValue(fl.stage+1, t.Micro, true):
		r.s.violate("%s gets %v for %+v", r.id, t.Data, t)
	}
}

// flowFinished adds a micro-batch's gradient in the member's units to its sum.
func (r *run) flowFinished(micro uint32) {
	fl := r.flow
	for _, rs := range fl.Micros[micro] {
		v, tokens := r.s.sum([]shard.Range{rs})
		for c, ch := range r.s.g.Chunks {
			share := r.s.share(c, fl.Part)
			for i := ch.Lo; i < ch.Hi; i++ {
				fl.sum[i] += share * v[i]
			}
		}
		if fl.stage == len(fl.Pipe.Stages)-1 {
			fl.tokens += tokens
		}
	}
	fl.done++
	key, took := fl.Pipe.Key, time.Duration(float64(r.s.rows)*float64(fl.Part[1]-fl.Part[0])/flowUnits/r.rate)
	r.sim.After(0, func() { r.do(FlowDone{Key: key, Micro: micro, Took: took}) })
}

// share is how much of a chunk's gradient the units of a part make: of a chunk that two units share, the first makes
// three times the whole and the second takes two thirds of that off again.
func (s *swarm) share(chunk int, part [2]int) (share float32) {
	units := s.g.Pipeline.Of[chunk]
	for i, u := range units {
		if u < part[0] || u >= part[1] {
			continue
		}
		switch {
		case len(units) == 1:
			share++
		case i == 0:
			share += 3
		default:
			share -= 2
		}
	}
	return share
}

func (r *run) flowFrame(w wireFlow) {
	fl := r.flow
	if fl == nil || flowLater(w.f.Key, fl.Pipe.Key) {
		if len(r.early) < 1000 {
			r.early = append(r.early, w)
		}
		return
	}
	if err := fl.m.Receive(w.from, w.f); err != nil && !errors.Is(err, pipe.ErrStale) {
		r.s.violate("%s refuses a frame of %s: %v", r.id, w.from, err)
	}
	r.flowTurn()
}

func flowLater(k, than collective.Key) bool {
	if k.Generation != than.Generation {
		return k.Generation > than.Generation
	}
	return k.Round > than.Round || k.Round == than.Round && k.Attempt > than.Attempt
}

// flowFailed sends a frame again a few times, as a Line does.
func (r *run) flowFailed(to record.PeerID, w wireFlow) {
	if r.flow == nil || r.flow.Pipe.Key != w.f.Key {
		return
	}
	if w.tries++; w.tries < 3 {
		r.sim.After(5*time.Millisecond<<w.tries, func() { r.sim.Send(to, w, 64) })
		return
	}
	r.do(FlowLost{Key: w.f.Key, ID: to})
}

// flowSeal ends the pipe and hands its sum over.
func (r *run) flowSeal(e Seal) {
	if r.flow == nil || r.flow.over || r.flow.Piece != e.Piece {
		r.s.violate("%s is to seal %+v", r.id, e.Piece)
		return
	}
	r.flow.over = true
	k := collective.Mark{PieceID: e.Piece, Weight: r.flow.tokens, Loss: float64(r.flow.tokens)}
	r.collect(r.col.Local(k, slices.Clone(r.flow.sum)))
}
