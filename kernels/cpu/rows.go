package cpu

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// checkRows refuses row numbers outside [0, limit) before anything is written.
func checkRows(rows mat[int32], limit int) error {
	for i := range rows.rows {
		if r := rows.row(i)[0]; r < 0 || int(r) >= limit {
			return fmt.Errorf("row %d of %d is named at %d", r, limit, i)
		}
	}
	return nil
}

func copyRows(d *Device, c *kernels.Cmd) error {
	dst, src, rows := f32(c.T[0]), f32(c.T[1]), i32(c.T[2])
	if err := checkRows(rows, dst.rows); err != nil {
		return err
	}
	d.rows(src.rows, src.cols, func(_ *worker, i int) {
		copy(dst.row(int(rows.row(i)[0])), src.row(i))
	})
	return nil
}

func gatherRows(d *Device, c *kernels.Cmd) error {
	dst, table, ids := f32(c.T[0]), f32(c.T[1]), i32(c.T[2])
	if err := checkRows(ids, table.rows); err != nil {
		return err
	}
	d.rows(dst.rows, dst.cols, func(_ *worker, i int) {
		copy(dst.row(i), table.row(int(ids.row(i)[0])))
	})
	return nil
}

// scatterAddRows splits columns, so that each element's sum keeps the given order.
func scatterAddRows(d *Device, c *kernels.Cmd) error {
	table, dy, ids, order := f32(c.T[0]), f32(c.T[1]), i32(c.T[2]), i32(c.T[3])
	if err := checkRows(ids, table.rows); err != nil {
		return err
	}
	if err := checkRows(order, dy.rows); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	d.cols(dy.cols, func(w *worker, lo, hi int) {
		for i := range order.rows {
			from := int(order.row(i)[0])
			to := table.row(int(ids.row(from)[0]))[lo:hi]
			w.apply(&w.fam.add, hi-lo, to, to, dy.row(from)[lo:hi])
		}
	})
	return nil
}

func argMax(d *Device, c *kernels.Cmd) error {
	dst, x := i32(c.T[0]), f32(c.T[1])
	d.rows(x.rows, x.cols, func(_ *worker, i int) { dst.row(i)[0] = int32(largest(x.row(i))) })
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
