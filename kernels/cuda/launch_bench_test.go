//go:build cuda && cudaemu

package cuda

import (
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// mostPerLaunch is what a launch may cost the host besides what the driver takes.
const mostPerLaunch = 500 * time.Nanosecond

// TestLaunchCost times the way from a command to the driver, with launches that do nothing. The best of several tries
// counts: what others do on the machine only adds.
func TestLaunchCost(t *testing.T) {
	d := open(t, Options{})
	cmds := chain(t, d, 64)
	if err := driver.Call("shoalEmuEmpty", 1); err != nil {
		t.Skip("a real driver: ", err)
	}
	defer driver.Call("shoalEmuEmpty", 0)
	best := time.Hour
	for range 200 {
		start := time.Now()
		if err := d.Run(cmds); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start)/time.Duration(len(cmds)))
	}
	if best > mostPerLaunch {
		t.Errorf("%v per command, %v at most", best, mostPerLaunch)
	}
	t.Logf("%v per command, in batches of %d", best, len(cmds))
}

func BenchmarkLaunch(b *testing.B) {
	d := open(b, Options{})
	cmds := chain(b, d, 64)
	if err := driver.Call("shoalEmuEmpty", 1); err != nil {
		b.Skip(err)
	}
	defer driver.Call("shoalEmuEmpty", 0)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Run(cmds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(cmds)), "ns/command")
}
