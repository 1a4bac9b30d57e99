package node

import (
	"math"
	"os"
	"runtime/debug"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// besides is what a process has that is neither tensors nor the Go heap: stacks, tables, memory that products work in. A
// guess from daemons that were watched.
const besides = 96 << 20 // bytes

// heap tells the garbage collector what max_memory leaves for it beside the device's tensors, which on a processor are
// memory of this process too. It is no less than a quarter: a collector that has too little does nothing else. Whoever set
// GOMEMLIMIT has said it already.
func heap(dev kernels.Device, set config.Limits) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	tensors := int64(0)
	if i := dev.Info(); strings.HasPrefix(i.Name, "cpu") {
		tensors = i.InUse
	}
	debug.SetMemoryLimit(heapLimit(int64(set.MaxMemory), tensors))
}

func heapLimit(most, tensors int64) int64 {
	if most <= 0 {
		return math.MaxInt64
	}
	return max(most-tensors-besides, most/4)
}
