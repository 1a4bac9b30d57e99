package plan

import (
	"cmp"
	"slices"
)

// group is the nodes of a stage to be. With tensor parallelism each replica is several nodes that act as one.
type group struct {
	nodes  []Node
	flops  float64 // together
	memory int64   // of the smallest
}

// joint stands between the names of nodes that act as one.
const joint = " + "

// bundles makes nodes that act as one out of t each, by tensor parallelism: of about the same speed, since each waits for
// the slowest. Those that are left over are not used.
func bundles(nodes []Node, t int) (all []Node) {
	if t == 1 {
		return nodes
	}
	order := byFlops(nodes)
	for ; len(order) >= t; order = order[t:] {
		b := order[0]
		for _, n := range order[1:t] {
			b.Name += joint + n.Name
			b.Memory, b.Flops, b.Rate, b.Delay = min(b.Memory, n.Memory), min(b.Flops, n.Flops), min(b.Rate, n.Rate), max(b.Delay, n.Delay)
		}
		b.Flops *= float64(t)
		all = append(all, b)
	}
	return all
}

// groupings are ways to make p groups of nodes that are worth a look. The order of groups is that of stages: the first holds
// the embedding, the last the head.
func groupings(nodes []Node, p int) (all [][]group) {
	for _, order := range [][]Node{byMemory(nodes), byFlops(nodes)} {
		for k := len(order); k >= p; k-- { // without the smallest, which may be too small for any stage
			all = append(all, rotations(runs(order[:k], p))...)
			all = append(all, rotations(dealt(order[:k], p))...)
			if k > p+8 { // one by one only near the end: the rest in larger steps
				k -= (k - p) / 8
			}
		}
	}
	return all
}

func byMemory(nodes []Node) []Node {
	n := slices.Clone(nodes)
	slices.SortStableFunc(n, func(a, b Node) int { return cmp.Compare(b.Memory, a.Memory) })
	return n
}

func byFlops(nodes []Node) []Node {
	n := slices.Clone(nodes)
	slices.SortStableFunc(n, func(a, b Node) int { return cmp.Compare(b.Flops, a.Flops) })
	return n
}

// runs puts neighbours together: nodes of the same kind share a stage.
func runs(nodes []Node, p int) []group {
	gs := make([]group, p)
	for i := range gs {
		gs[i] = newGroup(nodes[i*len(nodes)/p : (i+1)*len(nodes)/p])
	}
	return gs
}

// dealt gives each node to the group that is slowest so far: all groups are of about the same speed.
func dealt(nodes []Node, p int) []group {
	gs := make([]group, p)
	for _, n := range nodes {
		least := 0
		for i := range gs {
			if gs[i].flops < gs[least].flops {
				least = i
			}
		}
		gs[least] = newGroup(append(gs[least].nodes, n))
	}
	return gs
}

func newGroup(nodes []Node) group {
	g := group{nodes: slices.Clone(nodes)}
	for i, n := range nodes {
		g.flops += n.Flops
		if i == 0 || n.Memory < g.memory {
			g.memory = n.Memory
		}
	}
	return g
}

// rotations let each group be the last one in turn: the ends of a model are heavier than its middle.
func rotations(gs []group) (all [][]group) {
	for _, g := range gs {
		if len(g.nodes) == 0 {
			return nil
		}
	}
	for i := range min(len(gs), 8) {
		all = append(all, slices.Concat(gs[i:], gs[:i]))
	}
	return all
}

func (g group) fastest() (f float64) {
	for _, n := range g.nodes {
		f = max(f, n.Flops)
	}
	return f
}

// mixed reports whether nodes differ in speed by more than a fifth.
func (g group) mixed() bool {
	return slices.ContainsFunc(g.nodes, func(n Node) bool { return 6*n.Flops < 5*g.fastest() })
}
