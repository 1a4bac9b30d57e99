package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Seat is a stage of a job that runs: units [Lo, Hi) and the names of the nodes that hold all of them.
type Seat struct {
	Lo, Hi int
	Nodes  []string
}

// What is taken for a node that does not say.
const (
	guessedFlops = 10e9     // operations per second, where no node says more
	guessedRate  = 12.5e6   // bytes per second
	plenty       = 64 << 30 // bytes of memory
)

// Arrange gives nodes that are ready their stages. now is who has which, gone nodes included; nil: nobody has any. Where
// the nodes suffice the stages stay as they are: whoever left is taken out, whoever is new goes where the most work waits for
// the least speed, and a stage that nobody holds any more gets a replica of another. Otherwise the model is cut anew.
//
// Nodes need not say everything: their speed may be 0, then it follows from their Pace, or is that of the others.
func Arrange(j Job, nodes []Node, w Want, now []Seat) ([]Seat, error) {
	w.Flow, w.Tensor = true, 1
	nodes = complete(j, nodes)
	empty := ""
	if len(now) > 0 {
		seats, waits := reseat(j, nodes, w, now)
		if seats != nil {
			return seats, nil
		}
		empty = waits
	}
	p, err := Make(j, nodes, w)
	switch {
	case err == nil:
		return p.seats(), nil
	case empty != "":
		return nil, fmt.Errorf("%s; %w", empty, err)
	}
	return nil, err
}

func (p *Plan) seats() (all []Seat) {
	for _, s := range p.Stages {
		seat := Seat{Lo: s.Lo, Hi: s.Hi}
		for _, r := range s.Replicas {
			seat.Nodes = append(seat.Nodes, r.Node)
		}
		slices.Sort(seat.Nodes)
		all = append(all, seat)
	}
	return all
}

// complete fills in what nodes do not say. Their order is that of their names, so that whoever lists them gets the same.
func complete(j Job, nodes []Node) []Node {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	var known []float64
	for i := range nodes {
		n := &nodes[i]
		if n.Flops <= 0 && n.Pace > 0 {
			n.Flops = j.Mean() / n.Pace.Seconds()
		}
		if n.Flops > 0 {
			known = append(known, n.Flops)
		}
		n.Rate, n.Memory = cmp.Or(max(n.Rate, 0), guessedRate), cmp.Or(max(n.Memory, 0), plenty)
	}
	usual := guessedFlops
	if slices.Sort(known); len(known) > 0 {
		usual = known[len(known)/2]
	}
	for i := range nodes {
		nodes[i].Flops = cmp.Or(max(nodes[i].Flops, 0), usual)
	}
	return nodes
}

// Costs are the operations of a micro-batch in each unit, both ways.
func (j Job) Costs() []float64 {
	all := make([]float64, len(j.Units))
	for u := range all {
		all[u] = j.operations(u, u+1)
	}
	return all
}

// Mean is the mean of Costs: what a Pace is of.
func (j Job) Mean() float64 { return j.operations(0, len(j.Units)) / float64(max(len(j.Units), 1)) }

// reseat keeps the stages as they are; nil: it cannot, and which stage nobody can hold.
func reseat(j Job, nodes []Node, w Want, now []Seat) (seats []Seat, waits string) {
	if w.Stages != 0 && w.Stages != len(now) {
		return nil, ""
	}
	t := table{job: j, want: w}
	for _, s := range now {
		t.groups = append(t.groups, group{})
		t.seats = append(t.seats, Seat{Lo: s.Lo, Hi: s.Hi})
	}
	var fresh []Node
	for _, n := range nodes {
		at := slices.IndexFunc(now, func(s Seat) bool { return slices.Contains(s.Nodes, n.Name) })
		if at < 0 {
			fresh = append(fresh, n)
			continue
		}
		t.sit(at, n)
	}
	for _, n := range byFlops(fresh) {
		if at := t.place(n, -1); at >= 0 {
			t.sit(at, n)
		}
	}
	for i, g := range t.groups {
		if len(g.nodes) == 0 && !t.move(i) {
			return nil, fmt.Sprintf("stage %d of %d (%s) has nobody: it takes a node with %s", i+1, len(now), t.names(i), MB(t.need(i)))
		}
	}
	for i, g := range t.groups {
		for _, n := range g.nodes {
			t.seats[i].Nodes = append(t.seats[i].Nodes, n.Name)
		}
		slices.Sort(t.seats[i].Nodes)
	}
	return t.seats, ""
}

// table is stages whose nodes change.
type table struct {
	job    Job
	want   Want
	seats  []Seat // without nodes
	groups []group
}

func (t *table) sit(at int, n Node) { t.groups[at] = newGroup(append(t.groups[at].nodes, n)) }

// need is the memory of one more replica of a stage.
func (t *table) need(i int) int64 {
	n := len(t.groups[i].nodes) + 1
	s := Stage{Lo: t.seats[i].Lo, Hi: t.seats[i].Hi, Live: min(len(t.seats)-i, t.job.Micros)}
	return need(t.job, s, append(t.groups[:len(t.groups):len(t.groups)], group{nodes: make([]Node, 1)}), n, t.want)
}

// place is the stage in which a node helps most: one that nobody holds, or else the one that is slowest; -1: none fits.
func (t *table) place(n Node, but int) int {
	best, most := -1, 0.0
	for i, s := range t.seats {
		if i == but || t.need(i) > n.Memory {
			continue
		}
		load := t.job.operations(s.Lo, s.Hi) + 1
		switch g := t.groups[i]; {
		case len(g.nodes) == 0:
			load *= 1e12 // before all others
		default:
			load /= g.flops
		}
		if best < 0 || load > most {
			best, most = i, load
		}
	}
	return best
}

// move gives a stage that nobody holds a replica of the stage that can spare one best.
func (t *table) move(to int) bool {
	from, at, least := -1, -1, 0.0
	for i, g := range t.groups {
		if len(g.nodes) < 2 {
			continue
		}
		for k, n := range g.nodes {
			load := t.job.operations(t.seats[i].Lo, t.seats[i].Hi) / (g.flops - n.Flops)
			if t.need(to) <= n.Memory && (from < 0 || load < least) {
				from, at, least = i, k, load
			}
		}
	}
	if from < 0 {
		return false
	}
	n := t.groups[from].nodes[at]
	t.groups[from] = newGroup(slices.Delete(slices.Clone(t.groups[from].nodes), at, at+1))
	t.sit(to, n)
	return true
}

// names says what a stage holds.
func (t *table) names(i int) string {
	first, last := name(t.job, t.seats[i].Lo), name(t.job, t.seats[i].Hi-1)
	if first == last {
		return first
	}
	return first + " to " + last
}
