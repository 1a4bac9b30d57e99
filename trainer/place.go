package trainer

import "github.com/seed-7b27c88a/shoal/shard/layout"

// Layout is the job's index space: its tensors, units and chunks.
func (t *Trainer) Layout() (*layout.Layout, error) {
	params := make([]layout.Param, len(t.trained))
	for i, p := range t.trained {
		params[i] = layout.Param{Name: p.Name, Unit: p.Unit, Rows: p.Rows, Cols: p.Cols}
	}
	return layout.New(params)
}
