package cpu

import "unsafe"

// gemm4x4 is the microkernel in plain Go, four sums at a time: fma written out, with one test for all four.
func gemm4x4(kc int, pa, pb, pc *float32, ldc, add int, _, _ *float32) {
	a, b, c := unsafe.Slice(pa, 4*kc), unsafe.Slice(pb, 4*kc), unsafe.Slice(pc, 3*ldc+4)
	for i := range 4 {
		row := c[i*ldc : i*ldc+4]
		if add == 0 {
			clear(row)
		}
		c0, c1, c2, c3 := row[0], row[1], row[2], row[3]
		for k := 0; k+4 <= len(b); k += 4 {
			x, v := a[k+i], b[k:k+4]
			f := float64(x)
			s0, s1 := f*float64(v[0])+float64(c0), f*float64(v[1])+float64(c1)
			s2, s3 := f*float64(v[2])+float64(c2), f*float64(v[3])+float64(c3)
			if twice(s0) || twice(s1) || twice(s2) || twice(s3) {
				c0, c1, c2, c3 = fma(x, v[0], c0), fma(x, v[1], c1), fma(x, v[2], c2), fma(x, v[3], c3)
				continue
			}
			c0, c1, c2, c3 = float32(s0), float32(s1), float32(s2), float32(s3)
		}
		row[0], row[1], row[2], row[3] = c0, c1, c2, c3
	}
}
