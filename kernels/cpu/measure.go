package cpu

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// Peak runs multiply-adds of type t on registers alone, on all workers, and says how many floating-point operations it
// did; 0 where the kernels in use have no instructions for t. It is for measurements.
func (d *Device) Peak(t dtype.Type, rounds int) (flop int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.follow()
	run, size := d.fam.peak, d.fam.peakSize
	if t == dtype.BF16 {
		run, size = d.fam.peakPairs, d.fam.pairs.mr*d.fam.pairs.nr*d.fam.pairs.step
	}
	if run == nil {
		return 0
	}
	n := d.pool.workers()
	d.pool.each(n, func(*worker, int) { run(rounds) })
	return 2 * rounds * size * n
}

// Traffic is the plainest loop with the memory traffic of an AdamW step: it adds g to w, m and v. It is for
// measurements.
func (d *Device) Traffic(w, m, v, g kernels.Tensor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool.follow()
	d.call.start(&kernels.Cmd{T: [16]kernels.Tensor{w, m, v, g}})
	d.call.elementwise(&d.fam.traffic, 0, 1, 2, 3)
}
