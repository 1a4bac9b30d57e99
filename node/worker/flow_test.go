package worker

import (
	"fmt"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// newPipeline is a crew for a job in stages: a model of four blocks, activations in fp32 unless more says otherwise.
func newPipeline(t *testing.T, n, stages, steps int, more ...string) *crew {
	c := gather(t, n)
	dir := t.TempDir()
	must(t, tiny.Write(dir, tiny.Shape{Layers: 4}, 1))
	more = append([]string{fmt.Sprintf("parallel: {pipeline: %d}", stages), "wire: {activations: fp32}"}, more...)
	c.task = signTask(t, c.all[0], dir, tinyRows(t, c.all[0].deps.Store, 40), 40, tinySpec(n, steps, more))
	for _, r := range alone(t, c.all[0], c.task) {
		c.want = append(c.want, r.Loss)
	}
	return c
}

// TestPipeline: nodes that each compute a part of a model learn what one process learns.
func TestPipeline(t *testing.T) {
	for _, tc := range []struct {
		name      string
		n, stages int
		more      []string
	}{
		{"3 stages, LoRA", 3, 3, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newPipeline(t, tc.n, tc.stages, 12, tc.more...)
			var ids []int
			for i := range tc.n {
				ids = append(ids, i)
			}
			c.start(ids...)
			if off := c.finish(ids...); off > 1e-4 {
				t.Errorf("losses are off by %g", off)
			}
		})
	}
}
