//go:build cuda

package cuda

import (
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// mat is Mat of src/shoal.cuh.
type mat struct {
	p          uint64
	ld         int64
	rows, cols int32
	typ, flat  int32
}

// matOf is a tensor as kernels see it; a tensor that is none has no address.
func matOf(t *kernels.Tensor) mat {
	if t.Buf == nil {
		return mat{}
	}
	m := mat{p: uint64(t.Buf.Addr) + uint64(t.Type.Bytes(t.Off)), ld: int64(t.Ld), rows: int32(t.Rows), cols: int32(t.Cols), typ: int32(t.Type)}
	if t.Packed() {
		m.flat = 1
	}
	return m
}

// launch appends a launch to the list of this Run and returns its arguments, to be filled. A is the Go form of the
// kernel's argument struct: same fields, same sizes, multiples of 8 bytes in all.
func launch[A any](l *launcher, k kernel, blocks, threads, dynamic int) *A {
	return launchGrid[A](l, k, [3]uint32{uint32(blocks), 1, 1}, threads, dynamic)
}

// launchGrid is launch over a grid of more dimensions.
func launchGrid[A any](l *launcher, k kernel, grid [3]uint32, threads, dynamic int) *A {
	var a A
	return (*A)(unsafe.Pointer(&l.add(k, grid, threads, dynamic, int(unsafe.Sizeof(a)))[0]))
}

// elementwise is launch for kernels that give each thread a run of eight elements (runOf in src/shoal.cuh).
func elementwise[A any](l *launcher, k kernel, rows, cols int32, flat int32) *A {
	return launch[A](l, k, runs(rows, cols, flat, elementThreads), elementThreads, 0)
}

const elementThreads = 256

// runs is how many blocks give each run of eight elements a thread.
func runs(rows, cols, flat int32, threads int) int {
	n := int(rows) * ((int(cols) + 7) / 8)
	if flat != 0 {
		n = (int(rows)*int(cols) + 7) / 8
	}
	return blocks(n, threads)
}

// blocks is how many pieces of a size hold n.
func blocks(n, size int) int { return (n + size - 1) / size }
