package cpu

import "math"

// drop follows the comment of Stream.Drop.
func drop(_ *Device, x *call) error {
	x.rows(x.t[1].rows, x.t[1].cols, func(x *call, w *worker, i int) {
		c := x.cmd
		seed := uint64(uint32(c.I[1])) | uint64(uint32(c.I[2]))<<32
		base, site := mix(seed+uint64(uint32(x.number(2, 0)))), uint64(uint32(c.I[3]))
		key := i32(c.T[3])
		k := key.row(i)
		h := mix(mix(base^(uint64(uint32(k[0]))<<32|uint64(uint32(k[1])))) ^ site)
		out := x.rowOf(w, 0, i)
		dropRow(out, x.rowOf(w, 1, i), h, c.F[0], x.adds(0))
		x.put(w, 0, i, out)
	})
	return nil
}

// dropRow drops elements of a row by the numbers that follow from h.
func dropRow(out, in []float32, h uint64, rate float32, adding bool) {
	limit, keep := uint64(math.RoundToEven(float64(rate)*(1<<24))), 1/(1-rate)
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
}

// mix is the finalizer of splitmix64 (Steele et al. 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
