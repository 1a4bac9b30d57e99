package cpu

import "fmt"

// checkRows refuses row numbers outside [0, limit) before anything is written.
func checkRows(rows mat[int32], limit int) error {
	for i := range rows.rows {
		if r := rows.row(i)[0]; r < 0 || int(r) >= limit {
			return fmt.Errorf("row %d of %d is named at %d", r, limit, i)
		}
	}
	return nil
}

func copyRows(_ *Device, x *call) error {
	rows := i32(x.cmd.T[2])
	if err := checkRows(rows, x.t[0].rows); err != nil {
		return err
	}
	x.rows(x.t[1].rows, x.t[1].cols, func(x *call, w *worker, i int) {
		x.move(w, int(x.number(2, i)), i)
	})
	return nil
}

// move copies row j of operand 1 to row i of operand 0.
func (x *call) move(w *worker, i, j int) {
	if to := &x.t[0]; to.half != nil {
		w.narrow(to.half[i*to.ld:i*to.ld+to.cols], x.rowOf(w, 1, j))
		return
	}
	copy(x.t[0].row(i), x.rowOf(w, 1, j))
}

// number is the i'th of the column of integers at a place of the command, which was checked.
func (x *call) number(place, i int) int32 {
	m := i32(x.cmd.T[place])
	return m.p[i*m.ld]
}

func gatherRows(_ *Device, x *call) error {
	if err := checkRows(i32(x.cmd.T[2]), x.t[1].rows); err != nil {
		return err
	}
	x.rows(x.t[0].rows, x.t[0].cols, func(x *call, w *worker, i int) {
		x.move(w, i, int(x.number(2, i)))
	})
	return nil
}

// scatterAddRows splits columns, so that each element's sum keeps the given order.
func scatterAddRows(_ *Device, x *call) error {
	ids, order := i32(x.cmd.T[2]), i32(x.cmd.T[3])
	if err := checkRows(ids, x.t[0].rows); err != nil {
		return err
	}
	if err := checkRows(order, x.t[1].rows); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	x.strips(x.t[1].cols, func(x *call, w *worker, lo, hi int) {
		ids, order := i32(x.cmd.T[2]), i32(x.cmd.T[3])
		for i := range order.rows {
			from := int(order.row(i)[0])
			to := x.t[0].row(int(ids.row(from)[0]))[lo:hi]
			w.apply(&w.fam.add, hi-lo, to, to, x.get(w, 1, from, lo, hi))
		}
	})
	return nil
}

func argMax(_ *Device, x *call) error {
	x.rows(x.t[1].rows, x.t[1].cols, func(x *call, _ *worker, i int) {
		dst := i32(x.cmd.T[0])
		dst.row(i)[0] = int32(largest(x.t[1].row(i)))
	})
	return nil
}

// largest is the place of the largest element, the first of equals, passing over NaN.
func largest(x []float32) int {
	best, at := negInf, 0
	for i, v := range x {
		if v > best {
			best, at = v, i
		}
	}
	return at
}
