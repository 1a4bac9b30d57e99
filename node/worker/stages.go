package worker

import (
	"context"
	"errors"
	"strconv"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/plan"
)

// staging is what a job's terms say of its pipeline.
type staging struct {
	costs plan.Job
	want  plan.Want
	units [][]int // per chunk, see coord.Pipeline.Of
}

// Bounds of what a row is taken to have, where the spec has no sequence_len: some rows are looked at, for an estimate of
// times, and no frame is longer than maxElems.
const (
	rowsLooked = 64
	maxElems   = 1 << 28 // numbers of a micro-batch on its way between stages
)

func (j *Job) newStaging(m *materials) (s staging, err error) {
	spec := &j.task.Spec
	tokens, err := longest(j.ctx, m.rows)
	if err != nil {
		return s, err
	}
	if s.costs, err = trainer.Costs(spec, m.model, m.adapter, tokens); err != nil {
		return s, err
	}
	if spec.Parallel.Pipeline != job.Auto {
		if s.want.Stages, err = strconv.Atoi(spec.Parallel.Pipeline); err != nil {
			return s, err
		}
	}
	s.want.Zero = 2
	st, err := trainer.Stages(spec, m.model, m.adapter)
	s.units = st.Of
	return s, err
}

// longest is the length of the longest of the first rows.
func longest(ctx context.Context, rows trainer.Rows) (n int, err error) {
	for i := range min(rows.Rows(), rowsLooked) {
		ids, _, err := rows.Row(ctx, i)
		if err != nil {
			return 0, err
		}
		n = max(n, len(ids))
	}
	return n, nil
}

// pipeline is what coordination knows of it.
func (s *staging) pipeline(chunks int) *coord.Pipeline {
	elems := s.costs.Tokens * s.costs.Hidden
	return &coord.Pipeline{
		Units: len(s.costs.Units), Of: s.units[:chunks], Cost: s.costs.Costs(),
		Elems: maxElems, Bytes: int(float64(elems) * s.costs.Stream), Arrange: s.arrange,
	}
}

// arrange asks the plan which node holds what.
func (s *staging) arrange(nodes []coord.Node, now []coord.Stage) (stages []coord.Stage, err error) {
	if len(nodes) == 0 {
		return nil, errors.New("no node is ready")
	}
	ns := make([]plan.Node, len(nodes))
	for i, n := range nodes {
		ns[i] = plan.Node{Name: string(n.ID), Memory: n.Capability.MemBytes, Rate: n.Capability.BytesPerSec, Pace: n.Pace}
	}
	seats := make([]plan.Seat, len(now))
	for i, st := range now {
		seats[i] = plan.Seat{Lo: st.Lo, Hi: st.Hi}
		for _, id := range st.Members {
			seats[i].Nodes = append(seats[i].Nodes, string(id))
		}
	}
	if seats, err = plan.Arrange(s.costs, ns, s.want, seats); err != nil {
		return nil, err
	}
	for _, seat := range seats {
		st := coord.Stage{Lo: seat.Lo, Hi: seat.Hi}
		for _, name := range seat.Nodes {
			st.Members = append(st.Members, record.PeerID(name))
		}
		stages = append(stages, st)
	}
	return stages, nil
}
