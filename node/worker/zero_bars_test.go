package worker

import (
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

// TestOwnersReference trains a real model on members whose owners step, and holds the curve against PyTorch's in float64
// and the bytes that members send against what has to be sent: each of a member's contributions once to its owner, those
// of its own chunks once to their successor, and the new weights of its chunks to all others. Three members; two, three
// and five with SHOAL_FULL.
func TestOwnersReference(t *testing.T) {
	numbersOnly(t)
	sizes := []int{3}
	if os.Getenv("SHOAL_FULL") != "" {
		sizes = []int{2, 3, 5}
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := gather(t, n)
			for _, p := range c.all {
				p.unmeasured = true
			}
			c.storiesTask(n, "{zero: 2}")
			for i := range n {
				c.start(i)
			}
			var ids []int
			for i := range n {
				ids = append(ids, i)
			}
			off := c.finish(ids...)
			t.Logf("losses are off by %.2g; %v", off, c.moments(0))
			if off > 1e-4 || len(c.moments(0)) > 0 {
				t.Errorf("losses are off by %.2g; %v", off, c.moments(0))
			}
			c.checkSent()
		})
	}
}

// storiesTask is the reference run of all weights.
func (c *crew) storiesTask(members int, parallel string) {
	t := c.t
	var meta struct {
		Full struct {
			F64 struct {
				Loss []float64 `json:"loss_before_step"`
			} `json:"f64"`
		} `json:"full"`
	}
	modeltest.JSON(t, modeltest.Data(t, "reference", "stories260K", "meta.json"), &meta)
	c.want = meta.Full.F64.Loss
	rows := modeltest.Rows(t, modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors")), "train_ids")
	c.task = signTask(t, c.all[0], modeltest.Data(t, "models", "stories260K"), storeRows(t, c.all[0].deps.Store, rows), uint64(len(rows)),
		fmt.Sprintf(`version: shoal/v1
name: stories
base_model: "cid:m"
adapter: none
datasets: [{path: "cid:d"}]
shuffle: false
micro_batch_size: 1
global_batch_size: 4
max_steps: 50
max_grad_norm: 1.0
optimizer: {name: adamw, lr: 1e-3, betas: [0.9, 0.95], weight_decay: 0.1, no_decay: []}
lr_scheduler: {name: cosine, warmup_steps: 5, min_lr_ratio: 0.1}
parallel: %s
swarm: {min_peers: %d}
checkpoint: {every_steps: 50}
`, parallel, members))
}

// TestMirrorGap shows what the death of an owner costs with mirrors of different age, in the middle of a run of 50 steps.
func TestMirrorGap(t *testing.T) {
	if os.Getenv("SHOAL_FULL") == "" {
		t.Skip("SHOAL_FULL is not set: this measures what docs/benchmarks/zero.md shows")
	}
	for _, mirrors := range []int{1, 3, 10, 0} {
		t.Run(fmt.Sprint(mirrors), func(t *testing.T) {
			c := gather(t, 3)
			c.storiesTask(3, fmt.Sprintf("{zero: 2, mirror_rounds: %d}", mirrors))
			c.all[1].mark = 25
			c.start(0, 1, 2)
			<-c.all[1].tenth
			c.all[1].host.Close()
			off := c.finish(0, 2)
			last := len(c.want) - 1
			t.Logf("mirror_rounds %d: largest difference %.2g, after the last step %.2g; %v", mirrors, off,
				math.Abs(c.all[0].steps[last].Loss-c.want[last]), c.moments(0))
		})
	}
}

// checkSent compares what members sent with what has to be sent, in all and by the one that sent most. On a busy machine
// a member may miss a round: then a further attempt sends once more at most, and others own what it did.
func (c *crew) checkSent() {
	const elements = 260032 // of stories260K
	n, steps, calm := float64(len(c.all)), 0.0, true
	for _, r := range c.all[0].rounds {
		steps += float64(r.Attempts)
		calm = calm && r.Attempts == 1 && !slices.ContainsFunc(r.Members, func(m task.RoundMember) bool { return m.Left != "" })
	}
	psi := 4.0 * elements
	want := (2*psi*(n-1)/n + psi/n) * steps
	var sum, most float64
	for _, p := range c.all {
		up := float64(p.host.Traffic()["xfer"].Up)
		sum, most = sum+up, max(most, up)
	}
	c.t.Logf("a member sends %.0f bytes per step, %.3f of what it has to; the busiest %.3f", sum/n/steps, sum/n/want, most/want)
	if sum/n > 1.05*want {
		c.t.Errorf("a member sends %.3f of what it has to", sum/n/want)
	}
	if calm && most > 1.1*want { // 1.05 is the bar, and reached where nobody has to send something again; chunks too coarse give 1.2
		c.t.Errorf("the busiest member sends %.3f of what it has to", most/want)
	}
}
