package plan

import (
	"math"
	"slices"
	"time"
)

// fit cuts the model for groups of nodes so that the slowest stage is as fast as can be within the memories; nil: it
// does not fit.
func fit(j Job, gs []group, w Want) *Plan {
	w.Flow = w.Flow || len(gs) > 1
	cuts := cut(j, gs, w)
	if cuts == nil {
		return nil
	}
	p := &Plan{Tensor: w.Tensor, Zero: w.Zero, Offload: w.Offload, flow: w.Flow}
	for i, g := range gs {
		s := Stage{Lo: cuts[i], Hi: cuts[i+1], Live: live(j, gs, i)}
		s.Weights, s.Learns = j.weights(s.Lo, s.Hi)
		s.Memory = need(j, s, gs, len(g.nodes), w)
		s.Replicas = share(j, s, g)
		p.Stages = append(p.Stages, s)
	}
	p.time(j, gs)
	return p
}

// cut finds where stages begin and end (the linear partition problem): best[k][u] is the least time of the slowest of
// the first k stages when they hold the first u units.
func cut(j Job, gs []group, w Want) []int {
	units := len(j.Units)
	best, from := make([][]float64, len(gs)+1), make([][]int, len(gs)+1)
	for k := range best {
		best[k], from[k] = make([]float64, units+1), make([]int, units+1)
		for u := range best[k] {
			best[k][u] = math.Inf(1)
		}
	}
	best[0][0] = 0
	for k, g := range gs {
		l := live(j, gs, k)
		for hi := k + 1; hi <= units; hi++ {
			for lo := hi - 1; lo >= k; lo-- {
				if need(j, Stage{Lo: lo, Hi: hi, Live: l}, gs, len(g.nodes), w) > g.memory {
					break // more units need more
				}
				if t := max(best[k][lo], j.operations(lo, hi)/g.flops); t < best[k+1][hi] {
					best[k+1][hi], from[k+1][hi] = t, lo
				}
			}
		}
	}
	if math.IsInf(best[len(gs)][units], 1) {
		return nil
	}
	cuts := make([]int, len(gs)+1)
	cuts[len(gs)] = units
	for k := len(gs); k > 0; k-- {
		cuts[k-1] = from[k][cuts[k]]
	}
	return cuts
}

// live is how many micro-batches a replica of stage i keeps alive: the number of stages from it on, times how many more
// replicas the widest of those has, and as many as are on the lines meanwhile; two more where replicas differ in speed
// by more than a fifth.
func live(j Job, gs []group, i int) int {
	widest, delay := 0, time.Duration(0)
	for k, g := range gs {
		if k >= i {
			widest = max(widest, len(g.nodes))
		}
		for _, n := range g.nodes {
			delay = max(delay, n.Delay)
		}
	}
	n := len(gs[i].nodes)
	alive := ((len(gs)-i)*widest + n - 1) / n
	if onLines := 2 * delay * time.Duration(len(gs)-1-i); onLines > 0 {
		pace := max(seconds(j.operations(0, len(j.Units))/float64(len(gs))/gs[i].fastest()), 1)
		alive += int((onLines + pace - 1) / pace)
	}
	if slices.ContainsFunc(gs, group.mixed) {
		alive += 2
	}
	return min(alive, j.Micros)
}

// weights are the bytes of what is frozen in units [lo, hi) and the elements of what learns.
func (j Job) weights(lo, hi int) (frozen, learns int64) {
	for _, u := range j.Units[lo:hi] {
		frozen, learns = frozen+u.Frozen, learns+u.Learns
	}
	if lo == 0 || hi == len(j.Units) {
		frozen, learns = frozen+j.Shared.Frozen, learns+j.Shared.Learns
	}
	return frozen, learns
}

// operations of a micro-batch in units [lo, hi), both ways.
func (j Job) operations(lo, hi int) (sum float64) {
	for i, u := range j.Units[lo:hi] {
		sum += u.Forward + u.Back
		if j.Rerun && lo+i > 0 && lo+i < len(j.Units)-1 {
			sum += u.Forward
		}
	}
	return sum * float64(j.Tokens)
}

// need is the memory of one replica of a stage, bytes. gs are all stages' nodes.
func need(j Job, s Stage, gs []group, replicas int, w Want) int64 {
	bytes := held(j, s, max(seats(gs), 1), int64(max(replicas, 1)), w)
	_, learns := j.weights(s.Lo, s.Hi)
	if (w.Offload == "cpu" || w.Offload == "disk") && w.Zero < 3 { // two units on the device; what learns stays where its optimizer is
		bytes = min(bytes, 2*j.largest(s.Lo, s.Hi)+learns*8)
	}
	bytes /= int64(w.Tensor)
	var keep, work int64
	for i, u := range j.Units[s.Lo:s.Hi] {
		if inner := s.Lo+i > 0 && s.Lo+i < len(j.Units)-1; j.Rerun && inner {
			keep += 4 * int64(j.Hidden)
			work = max(work, u.Keep+u.Work)
		} else {
			keep += u.Keep
			work = max(work, u.Work)
		}
	}
	tokens := int64(j.Tokens)
	passing := tokens * (int64(s.Live)*keep + work) * 6 / 5 // what memory is taken in leaves gaps: a fifth, measured
	if len(gs) > 1 {                                        // what went to both neighbours is kept until the round's cut, on the host
		passing += tokens * 2 * 4 * int64(j.Hidden) * int64((j.Micros+replicas-1)/replicas)
	}
	return base + bytes + passing
}

// held are the bytes of weights and of what belongs to them.
func held(j Job, s Stage, members, r int64, w Want) int64 {
	frozen, learns := j.weights(s.Lo, s.Hi)
	each, state := int64(j.PerLearned-j.State), int64(j.State)
	if w.Flow { // everybody has all that learns on the host, and owners the old and the new state of their chunks
		_, all := j.weights(0, len(j.Units))
		return frozen + learns*each + all*int64(4+j.OnHost)*3/2 + 2*all*state/members // a half more is what lies around until it is collected: measured
	}
	bytes := frozen + learns*(each+state) + learns*int64(j.OnHost)
	switch {
	case w.Zero >= 3:
		return away(j, s, r, w)
	case w.Zero >= 1: // the state alone, old and new
		return bytes + learns*state*(2-r)/r
	case j.Every > 1: // the shared weights and the outer momentum
		return bytes + 8*learns
	}
	return bytes
}

// seats is how many nodes hold a stage.
func seats(gs []group) (n int64) {
	for _, g := range gs {
		n += int64(len(g.nodes))
	}
	return n
}

// largest is the most bytes that the weights of one unit take while it works.
func (j Job) largest(lo, hi int) (most int64) {
	for _, u := range j.Units[lo:hi] {
		most = max(most, u.Frozen+8*u.Learns)
	}
	if lo == 0 || hi == len(j.Units) {
		most = max(most, j.Shared.Frozen+8*j.Shared.Learns)
	}
	return most
}

// share gives micro-batches to replicas: each to the one that would be done with it first.
func share(j Job, s Stage, g group) (rs []Replica) {
	ops := j.operations(s.Lo, s.Hi)
	for _, n := range g.nodes {
		rs = append(rs, Replica{Node: n.Name, Memory: n.Memory, Pace: seconds(ops / n.Flops)})
	}
	for range j.Micros {
		best := 0
		for i, r := range rs {
			if time.Duration(r.Micros+1)*r.Pace < time.Duration(rs[best].Micros+1)*rs[best].Pace {
				best = i
			}
		}
		rs[best].Micros++
	}
	return rs
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// time says how long a step takes and what it sends.
func (p *Plan) time(j Job, gs []group) {
	stream := float64(j.Tokens*j.Hidden) * j.Stream // bytes of a micro-batch between two stages, one way
	sent := map[string]float64{}
	var slowest, its, line, once, reduce time.Duration // its: what a micro-batch takes in the slowest stage
	for i, s := range p.Stages {
		var busy, pass time.Duration
		for k, r := range s.Replicas {
			busy = max(busy, time.Duration(r.Micros)*r.Pace)
			if k == 0 || r.Pace < pass {
				pass = r.Pace
			}
			n := gs[i].nodes[k]
			var bytes float64
			if i+1 < len(p.Stages) {
				bytes += stream * float64(r.Micros)
				once += 2 * (n.Delay + seconds(stream/n.Rate)) / time.Duration(len(s.Replicas))
			}
			if i > 0 {
				bytes += stream * float64(r.Micros)
			}
			if n.Rate > 0 { // what it sends and what it gets are about the same
				line = max(line, seconds(bytes/n.Rate))
			}
			gradient := p.gradient(j, s, seats(gs)) / float64(max(j.Every, 1))
			sent[n.Name] = bytes + gradient
			if n.Rate > 0 && gradient > 0 {
				reduce = max(reduce, seconds(gradient/n.Rate)+4*n.Delay/time.Duration(max(j.Every, 1)))
			}
		}
		if busy > slowest {
			slowest, its = busy, pass
		}
		once += pass
	}
	p.Compute, p.Reduce = slowest, reduce
	p.Fill = max(once-its, 0)
	p.Step = max(slowest, line) + p.Fill + reduce
	for _, b := range sent {
		p.Sent += int64(b)
		p.Busiest = max(p.Busiest, int64(b))
	}
	p.Bound = bound(slowest, line, p.Fill, reduce)
}

// gradient is the bytes that a replica sends to add gradients up, per exchange: two passes of what learns. In a pipeline it sends the gradient of
// its own part, and to all members what it owns.
func (p *Plan) gradient(j Job, s Stage, members int64) float64 {
	r := float64(len(s.Replicas))
	if p.flow && members > 1 {
		_, all := j.weights(0, len(j.Units))
		return float64(s.Learns+all) * j.Gradient * float64(members-1) / float64(members)
	}
	if r < 2 {
		return 0
	}
	passes := 2.0
	bytes := float64(s.Learns) * j.Gradient * passes
	return bytes * (r - 1) / r
}

func bound(compute, line, fill, reduce time.Duration) string {
	switch max(compute, line, fill, reduce) {
	case compute:
		return "the slowest stage's computation"
	case line:
		return "lines between stages"
	case fill:
		return "filling and draining the pipeline: more micro-batches, or fewer stages, would help"
	}
	return "adding gradients up"
}
