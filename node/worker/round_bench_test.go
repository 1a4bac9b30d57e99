package worker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

// BenchmarkEmptyRound is the cost of agreement: four nodes on loopback, a job whose rounds have next to no work, one row
// of two tokens, and a small vector. It reports the median and the 99th percentile of what a round takes from its plan,
// which the commit before carries, to its commit, in ms. Over slow lines the trips count, which TestEmptyRound in node/coord prints:
//
//	go test ./node/worker ./node/coord -run EmptyRound -bench EmptyRound -benchtime 300x -v
func BenchmarkEmptyRound(b *testing.B) {
	const nodes = 4
	var ps []*peer
	for range nodes {
		ps = append(ps, newPeer(b))
	}
	connect(b, ps)
	dir := b.TempDir()
	must(b, tiny.Write(dir, tiny.Shape{Layers: 1}, 1))
	rows := make([][]int32, 8)
	for i := range rows {
		rows[i] = []int32{3, int32(4 + i)}
	}
	tk := signTask(b, ps[0], dir, storeRows(b, ps[0].deps.Store, rows), uint64(len(rows)), tinySpec(nodes, 50+b.N, []string{
		"lora_r: 1", "lora_alpha: 1", "lora_target_linear: false", "lora_target_modules: [q_proj]", "global_batch_size: 1", "checkpoint: {every_steps: 1000000}",
	}))
	for _, p := range ps {
		go p.run(b.Context(), tk)
	}
	for _, p := range ps {
		<-p.done
	}
	var ms []float64
	for i := 50; i < len(ps[0].at); i++ { // the first ones open connections
		ms = append(ms, ps[0].at[i].Sub(ps[0].at[i-1]).Seconds()*1e3)
	}
	slices.Sort(ms)
	if len(ms) != b.N {
		b.Fatal(fmt.Sprint(len(ms), " rounds"))
	}
	b.ReportMetric(ms[len(ms)/2], "ms/round")
	b.ReportMetric(ms[len(ms)*99/100], "ms-p99")
	b.ReportMetric(0, "ns/op")
}
