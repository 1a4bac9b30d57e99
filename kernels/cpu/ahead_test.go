package cpu

import (
	"testing"
	"unsafe"
)

// TestAhead: all lines of all rows are fetched, each once, in the turns there are, and nothing outside.
func TestAhead(t *testing.T) {
	mem := make([]byte, 10*1000)
	for _, c := range []struct{ rows, bytes, ld, turns int }{{1, 64, 64, 1}, {10, 700, 1000, 3}, {7, 64, 1000, 40}, {10, 1000, 1000, 7}, {3, 128, 128, 0}} {
		fetched := map[uintptr]int{}
		fetch := func(at unsafe.Pointer, lines int) {
			for i := range lines {
				fetched[uintptr(at)-uintptr(unsafe.Pointer(&mem[0]))+uintptr(i*cacheLine)]++
			}
		}
		var a ahead
		a.plan(unsafe.Pointer(&mem[0]), c.ld, c.rows, c.bytes, c.turns)
		for range max(1, c.turns) {
			a.turn(fetch)
		}
		if a.rows != 0 || uintptr(a.at) > uintptr(unsafe.Pointer(&mem[(c.rows-1)*c.ld])) {
			t.Errorf("%+v: %d rows are left", c, a.rows)
		}
		want := 0
		for r := range c.rows {
			for x := 0; x < c.bytes; x += cacheLine {
				want++
				if n := fetched[uintptr(r*c.ld+x)]; n != 1 {
					t.Errorf("%+v: line %d of row %d was fetched %d times", c, x/cacheLine, r, n)
				}
			}
		}
		if len(fetched) != want {
			t.Errorf("%+v: %d lines were fetched, want %d", c, len(fetched), want)
		}
	}
}
