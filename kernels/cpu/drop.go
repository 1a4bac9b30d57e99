package cpu

import (
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// drop follows the comment of Stream.Drop.
func drop(d *Device, c *kernels.Cmd) error {
	y, x, step, key := f32(c.T[0]), f32(c.T[1]), i32(c.T[2]), i32(c.T[3])
	seed := uint64(uint32(c.I[1])) | uint64(uint32(c.I[2]))<<32
	base := mix(seed + uint64(uint32(step.p[0])))
	site, rate := uint64(uint32(c.I[3])), c.F[0]
	limit := uint64(math.RoundToEven(float64(rate) * (1 << 24)))
	keep, adding := 1/(1-rate), kernels.Mode(c.I[0]) == kernels.Add
	d.rows(x.rows, x.cols, func(_ *worker, i int) {
		k := key.row(i)
		h := mix(mix(base^(uint64(uint32(k[0]))<<32|uint64(uint32(k[1])))) ^ site)
		in, out := x.row(i), y.row(i)
		for j, v := range in {
			if mix(h+uint64(j)*0x9e3779b97f4a7c15)>>40 >= limit {
				v = float32(v * keep)
			} else {
				v = 0
			}
			if adding {
				v += out[j]
			}
			out[j] = v
		}
	})
	return nil
}

// mix is the finalizer of splitmix64 (Steele et al. 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
