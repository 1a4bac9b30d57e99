package cpu

import "unsafe"

// gemmGo is a microkernel of any size in plain Go. The tile of sums is small enough for the first-level cache.
func gemmGo(kc, mr, nr int, pa, pb, pc *float32, ldc, add int) {
	a, b := unsafe.Slice(pa, kc*mr), unsafe.Slice(pb, kc*nr)
	c := unsafe.Slice(pc, (mr-1)*ldc+nr)
	for i := range mr {
		row := c[i*ldc : i*ldc+nr]
		if add == 0 {
			clear(row)
		}
		for k := range kc {
			f := a[k*mr+i]
			for j, v := range b[k*nr : k*nr+nr] {
				row[j] = fma(f, v, row[j])
			}
		}
	}
}
