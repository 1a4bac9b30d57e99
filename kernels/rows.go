package kernels

import "github.com/seed-7b27c88a/shoal/kernels/dtype"

// CopyRows is dst[rows[i]] = src[i], as a cache of keys and values is written; rows is I32 (N, 1), each named once.
// A row outside dst is an error of the device.
func (s *Stream) CopyRows(dst, src, rows Tensor) {
	must(isReal(dst, -1, src.Cols) && isReal(src, -1, -1) && is(rows, dtype.I32, src.Rows, 1), OpCopyRows, dst, src, rows)
	s.put(Cmd{Op: OpCopyRows, T: [16]Tensor{dst, src, rows}})
}

// GatherRows is dst[i] = table[ids[i]]; ids is I32 (N, 1). An id outside the table is an error of the device.
func (s *Stream) GatherRows(dst, table, ids Tensor) {
	must(isReal(table, -1, dst.Cols) && isReal(dst, -1, -1) && is(ids, dtype.I32, dst.Rows, 1), OpGatherRows, dst, table, ids)
	s.put(Cmd{Op: OpGatherRows, T: [16]Tensor{dst, table, ids}})
}

// ScatterAddRows is dtable[ids[order[i]]] += dy[order[i]] for i in order; order sorts ids stably, so the rows of an id
// are one run, summed in one order and without atomics. ids and order are I32 (N, 1).
func (s *Stream) ScatterAddRows(dtable, dy, ids, order Tensor) {
	must(isF32(dtable, -1, dy.Cols) && isReal(dy, -1, -1) && is(ids, dtype.I32, dy.Rows, 1) && is(order, dtype.I32, dy.Rows, 1),
		OpScatterAddRows, dtable, dy, ids, order)
	s.put(Cmd{Op: OpScatterAddRows, T: [16]Tensor{dtable, dy, ids, order}})
}

// ArgMax is dst (N, 1) = the column of each row's largest element, the first of equals; NaN never wins.
func (s *Stream) ArgMax(dst, x Tensor) {
	must(isF32(x, -1, -1) && x.Cols > 0 && is(dst, dtype.I32, x.Rows, 1), OpArgMax, dst, x)
	s.put(Cmd{Op: OpArgMax, T: [16]Tensor{dst, x}})
}
