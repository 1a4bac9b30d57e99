package cpu

import (
	"math"
	"slices"
)

// turns is a table of the cosines and sines of all positions below a limit, for one set of frequencies. A step rotates
// queries and keys of every layer by the same angles, and sines in double precision are what rotating costs.
type turns struct {
	freq  []float32
	scale float32
	rows  int       // positions that are filled in
	table []float32 // (rows, 2·len(freq)): cosines, then sines
}

const (
	keepTurns  = 4       // tables: models with local and global attention have two sets of frequencies
	mostAngles = 4 << 20 // elements of a table; positions beyond are computed each time
)

// of gives the cosines and sines of a position.
func (t *turns) of(w *worker, pos int32) (cos, sin []float32) {
	half := len(t.freq)
	var row []float32
	if uint(pos) < uint(t.rows) {
		row = t.table[int(pos)*2*half:][:2*half]
	} else {
		row = w.scratch(scratchRow, 2*half)
		t.angles(row, pos)
	}
	return row[:half], row[half:]
}

// angles fills a row of the table: computed in double precision, for float32 angles of far positions are off by more
// than the model can bear.
func (t *turns) angles(row []float32, pos int32) {
	half := len(t.freq)
	for k, f := range t.freq {
		s, c := math.Sincos(float64(pos) * float64(f))
		row[k], row[half+k] = float32(c*float64(t.scale)), float32(s*float64(t.scale))
	}
}

// table finds or makes the table for a command's frequencies, filled up to the largest of its positions.
func (x *call) table() *turns {
	freq, scale := x.t[3].mat.row(0), x.cmd.F[0]
	i := slices.IndexFunc(x.turns, func(t *turns) bool { return t.scale == scale && slices.Equal(t.freq, freq) })
	if i < 0 {
		if i = len(x.turns); i == keepTurns {
			x.pool.mem.release(x.turns[0].table)
			x.turns = slices.Delete(x.turns, 0, 1)
			i--
		}
		x.turns = append(x.turns, &turns{freq: slices.Clone(freq), scale: scale})
	}
	t, most := x.turns[i], int32(-1)
	pos := i32(x.cmd.T[2])
	for r := range pos.rows {
		most = max(most, pos.row(r)[0])
	}
	if rows := int(most) + 1; rows > t.rows && rows*2*len(freq) <= mostAngles {
		x.fillTable(t, rows)
	}
	return t
}

// fillTable extends a table, to at least twice its size so that decoding does not do it at each token.
func (x *call) fillTable(t *turns, rows int) {
	width := 2 * len(t.freq)
	rows = max(rows, min(2*t.rows, mostAngles/width))
	table := x.pool.mem.floats(max(rows*width, 1))[:rows*width]
	copy(table, t.table)
	x.pool.mem.release(t.table)
	from := t.rows
	t.table, t.rows, x.turning, x.from = table, rows, t, from
	x.rows(rows-from, 32*width, func(x *call, _ *worker, i int) {
		t, pos := x.turning, x.from+i
		width := 2 * len(t.freq)
		t.angles(t.table[pos*width:(pos+1)*width], int32(pos))
	})
}

func rope(_ *Device, x *call) error {
	x.turning = x.table()
	x.rows(x.t[1].rows, x.t[1].cols, func(x *call, w *worker, i int) {
		heads, dim := int(x.cmd.I[0]), int(x.cmd.I[1])
		cos, sin := x.turning.of(w, x.number(2, i))
		y, in := x.rowOf(w, 0, i), x.rowOf(w, 1, i)
		for h := range heads {
			turn(y[h*dim:(h+1)*dim], in[h*dim:(h+1)*dim], cos, sin, x.cmd.I[2] != 0, x.adds(3))
		}
		x.put(w, 0, i, y)
	})
	return nil
}

// turn rotates one head's pairs (i, i+half), or turns them back.
func turn(y, x, cos, sin []float32, inverse, adding bool) {
	half := len(cos)
	lo, hi, ylo, yhi := x[:half], x[half:][:half], y[:half], y[half:][:half]
	sin = sin[:half]
	for k, c := range cos {
		a, b, s := lo[k], hi[k], sin[k]
		if inverse {
			s = -s
		}
		p := float32(a*c) - float32(b*s)
		q := float32(b*c) + float32(a*s)
		if adding {
			p, q = p+ylo[k], q+yhi[k]
		}
		ylo[k], yhi[k] = p, q
	}
}
