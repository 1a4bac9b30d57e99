package cpu

import (
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// packer moves panels with vector instructions; in plain Go there is none. Lines of the source are ld bytes apart, rows
// of the panel width words. What it moves are words of 32 bits: float32, or two bfloat16 of the source that lie side
// by side along k.
type packer struct {
	quads func(dst, src unsafe.Pointer, ld, width, quads, blocks int) // transposes 4·quads lines, 4·blocks words of each
	pair  func(dst, src unsafe.Pointer, ld, width, blocks int)        // transposes 2 lines
	rows  map[int]copier                                              // copy lines, by the width of the panel
	zip   func(dst, src unsafe.Pointer, ld, width, depth int)         // makes words of depth pairs of lines
}

// copier copies the first words of depth lines.
type copier func(dst, src unsafe.Pointer, ld, depth int)

// pack packs the panel of a side that starts at line lo: step x of line y is dst[x*unit+y], or one half of
// dst[x/2*unit+y] where words are pairs. Lines and the odd half that do not exist are zero.
func (w *worker) pack(dst []float32, s *side, lo, k, depth int) {
	have := min(s.unit, s.n-lo)
	if depth == 0 {
		return
	}
	if have < s.unit {
		clear(dst)
	}
	row, col := k, lo
	if s.stored {
		row, col = lo, k
	}
	at := row*s.o.ld + col
	switch {
	case s.converts():
		for x := 0; x < depth; x += blockK { // a multiple of the step
			w.convert(dst[x/s.step*s.unit:], s, lo, have, k+x, min(blockK, depth-x), 0)
		}
	case s.step == 1:
		packWords(&w.fam.words, dst, s.o.p[at:], s.o.ld, s, have, depth)
	default:
		packPairs(&w.fam.zip, dst, s.o.half[at:], s.o.ld, s, have, depth)
	}
}

// convertSteps is how many steps of columns are converted at a time: even, and little enough for the first-level cache.
const convertSteps = 64

// packLines packs the panels of lines [lo, hi), which start size words apart. Columns that need converting are converted
// for all panels at once: a vector kernel for the dozen elements of a panel's row would mostly be calls.
func (w *worker) packLines(dst []float32, s *side, lo, hi, k, depth, size int) {
	hi = min(hi, s.n)
	if !s.stored && s.converts() {
		for x := 0; x < depth; x += convertSteps {
			w.convert(dst[x/s.step*s.unit:], s, lo, hi-lo, k+x, min(convertSteps, depth-x), size)
		}
		return
	}
	for at := lo; at < hi; at += s.unit {
		w.pack(dst[(at-lo)/s.unit*size:][:s.unit*parts(depth, s.step)], s, at, k, depth)
	}
}

// converts reports whether elements get another type on their way into panels.
func (s *side) converts() bool {
	if s.step == 1 {
		return s.round != dtype.F32 || s.o.p == nil
	}
	return s.o.half == nil
}

// convert packs by way of scratch memory, where elements get the type of the panel: lines of one panel, or, where they are
// columns, of several that start size words apart.
func (w *worker) convert(dst []float32, s *side, lo, have, k, depth, size int) {
	lines, n, row, col := have, depth, lo, k
	if !s.stored { // a few elements more than needed: vectors take 16
		lines, n, row, col = depth, (have+lanes-1)&^(lanes-1), k, lo
	}
	ld := (n + lanes - 1) &^ (lanes - 1)
	var wide []float32
	var half []uint16
	if s.step == 1 {
		wide = w.scratch(scratchStage, lines*ld)
	} else {
		half = w.halves(scratchStage, lines*ld)
	}
	for i := range lines {
		if s.step == 1 {
			w.stage(wide[i*ld:], s, row+i, col, n)
		} else {
			w.stageHalf(half[i*ld:], s, row+i, col, n)
		}
	}
	for at := 0; at < have; at += s.unit {
		to, some := dst[at/s.unit*size:][:s.unit*parts(depth, s.step)], min(s.unit, have-at)
		if some < s.unit {
			clear(to)
		}
		if s.step == 1 {
			packWords(&w.fam.words, to, wide[at:], ld, s, some, depth)
		} else {
			packPairs(&w.fam.zip, to, half[at:], ld, s, some, depth)
		}
	}
}

// stage is n elements of a stored row, rounded.
func (w *worker) stage(dst []float32, s *side, row, col, n int) {
	got := w.fetch(dst, &s.o, row, col, n)
	switch s.round {
	case dtype.BF16:
		w.apply(&w.fam.round, len(got), got, got)
	case dtype.F16:
		w.apply(&w.fam.roundF16, len(got), got, got)
	}
}

// stageHalf is the same as bfloat16.
func (w *worker) stageHalf(dst []uint16, s *side, row, col, n int) {
	if s.o.p == nil {
		w.narrow(dst, w.fetch(w.scratch(scratchFetch, n), &s.o, row, col, n))
		return
	}
	src := s.o.p[row*s.o.ld+col:]
	w.narrow(dst, src[:min(n, len(src))])
}

// fetch copies n elements of a stored row from a column on, or fewer where memory ends, as float32.
func (w *worker) fetch(dst []float32, o *operand, row, col, n int) []float32 {
	at := row*o.ld + col
	switch {
	case o.q != nil:
		n = min(n, o.cols-col)
		o.q.fetch(dst[:n], at, &w.nf4)
	case o.half != nil:
		n = min(n, len(o.half)-at)
		w.widen(dst, o.half[at:at+n])
	default:
		n = min(n, len(o.p)-at)
		copy(dst[:n], o.p[at:])
	}
	return dst[:n]
}

// packWords packs float32 from src, whose lines are rows if they are so stored, else columns.
func packWords(by *packer, dst, src []float32, ld int, s *side, have, depth int) {
	if s.stored {
		done, blocks := transpose(by, dst, unsafe.Pointer(&src[0]), 4*ld, s.unit, have, depth)
		for y := range have {
			from := 0
			if y < done {
				from = 4 * blocks
			}
			for x := from; x < depth; x++ {
				dst[x*s.unit+y] = src[y*ld+x]
			}
		}
		return
	}
	if rows := by.rows[s.unit]; have == s.unit && rows != nil {
		_ = src[(depth-1)*ld+have-1]
		rows(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), 4*ld, depth)
		return
	}
	for x := range depth {
		copy(dst[x*s.unit:x*s.unit+have], src[x*ld:])
	}
}

// packPairs packs bfloat16 from src into words of pairs.
func packPairs(by *packer, dst []float32, src []uint16, ld int, s *side, have, depth int) {
	to := unsafe.Slice((*uint32)(unsafe.Pointer(&dst[0])), s.unit*parts(depth, 2))
	along, across := ld, 1 // distances of steps and of lines
	if s.stored {
		along, across = 1, ld
	}
	word := func(x, y int) { // steps 2x and 2x+1 of line y
		v := uint32(src[2*x*along+y*across]) << 16
		if 2*x+1 < depth {
			v |= uint32(src[(2*x+1)*along+y*across])
		}
		to[x*s.unit+y] = v
	}
	done, from := 0, 0
	if s.stored {
		lines, blocks := transpose(by, dst, unsafe.Pointer(&src[0]), 2*ld, s.unit, have, depth/2)
		done, from = lines, 4*blocks
	} else if have == s.unit && s.unit%4 == 0 && by.zip != nil && depth > 1 {
		_ = src[(depth/2*2-1)*ld+have-1]
		by.zip(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), 2*ld, s.unit, depth/2)
		done, from = have, depth/2
	}
	for x := range parts(depth, 2) {
		first := 0
		if x < from {
			first = done
		}
		for y := first; y < have; y++ {
			word(x, y)
		}
	}
}

// transpose packs rows of words, ld bytes apart, as far as vectors go: 4·blocks words of the first lines.
func transpose(by *packer, dst []float32, src unsafe.Pointer, ld, width, have, words int) (lines, blocks int) {
	if blocks = words / 4; by.quads == nil || blocks == 0 {
		return 0, 0
	}
	if quads := have / 4; quads > 0 {
		by.quads(unsafe.Pointer(&dst[0]), src, ld, width, quads, blocks)
		lines = 4 * quads
	}
	if have-lines >= 2 {
		by.pair(unsafe.Pointer(&dst[lines]), unsafe.Add(src, lines*ld), ld, width, blocks)
		lines += 2
	}
	return lines, blocks
}
