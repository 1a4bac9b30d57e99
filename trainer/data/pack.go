package data

import (
	"context"
	"slices"
)

// packWindow is how many tokens are collected before they are packed: 32 MB of ids and labels. More would fill positions
// a little better where rows are nearly as long as a position, fewer would cost that.
const packWindow = 4 << 20 // tokens

// packer puts several rows into each position by first-fit decreasing (Johnson 1973): rows in order of falling length, each
// into the first position that has room, at most 11/9 of the fewest possible positions. Each row is in one position, whole.
//
// The same rows give the same positions: of equally long rows the earlier one comes first, a position's rows stand in the
// order of the file, and positions in the order of their first rows.
type packer struct {
	limit int // tokens of a position
	w     *Writer

	rows   []Example // that wait
	tokens int       // of them
}

func (p *packer) add(ctx context.Context, e Example) error {
	p.rows = append(p.rows, e)
	if p.tokens += len(e.IDs); p.tokens < packWindow {
		return nil
	}
	return p.flush(ctx)
}

func (p *packer) flush(ctx context.Context) error {
	lengths := make([]int, len(p.rows))
	for i, e := range p.rows {
		lengths[i] = len(e.IDs)
	}
	for _, bin := range firstFit(lengths, p.limit) {
		if err := p.w.Add(ctx, p.join(bin)); err != nil {
			return err
		}
	}
	p.rows, p.tokens = nil, 0
	return nil
}

// join makes one position of rows.
func (p *packer) join(rows []int) Example {
	if len(rows) == 1 {
		return p.rows[rows[0]]
	}
	var e Example
	for _, i := range rows {
		if len(e.IDs) > 0 {
			e.Cuts = append(e.Cuts, len(e.IDs))
		}
		e.IDs, e.Labels = append(e.IDs, p.rows[i].IDs...), append(e.Labels, p.rows[i].Labels...)
	}
	return e
}

// firstFit distributes things of these lengths, none above limit, over bins of limit.
func firstFit(lengths []int, limit int) (bins [][]int) {
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return lengths[b] - lengths[a] })
	room := newRoom(len(lengths), limit)
	for _, i := range order {
		b := room.take(lengths[i])
		if b == len(bins) {
			bins = append(bins, nil)
		}
		bins[b] = append(bins[b], i)
	}
	for _, b := range bins {
		slices.Sort(b)
	}
	slices.SortFunc(bins, func(a, b []int) int { return a[0] - b[0] })
	return bins
}

// room finds the first bin with enough room in log n steps: a binary tree, each node the most room below it, its root at 1
// and the bins in its lower half.
type room struct {
	tree []int
}

func newRoom(bins, limit int) room {
	n := 1
	for n < bins {
		n *= 2
	}
	r := room{make([]int, 2*n)}
	for i := range r.tree {
		r.tree[i] = limit
	}
	return r
}

// take takes n from the first bin that has as much, which is an empty one at the latest.
func (r room) take(n int) int {
	i, leaves := 1, len(r.tree)/2
	for i < leaves {
		if i *= 2; r.tree[i] < n {
			i++
		}
	}
	bin := i - leaves
	r.tree[i] -= n
	for i /= 2; i > 0; i /= 2 {
		r.tree[i] = max(r.tree[2*i], r.tree[2*i+1])
	}
	return bin
}
