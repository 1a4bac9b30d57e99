//go:build cuda

package cuda

// kernel is an index of kernelNames.
type kernel int

// The kernels, as they are called in src.
const (
	kFill kernel = iota
	kAdd
	kMul
	kScale
	kCheckRows
	kMoveRows
	numKernels
)

var kernelNames = [numKernels]string{
	kFill:  "fill",
	kAdd:   "add",
	kMul:   "mul",
	kScale: "scale",

	kCheckRows: "checkRows",
	kMoveRows:  "moveRows",
}

// dynamicShared is the most bytes of dynamic shared memory that launches of a kernel ask for, where it is above 48 KiB.
var dynamicShared = [numKernels]int{}

// kProduct stands for a product of cuBLASLt where a name is needed.
const kProduct kernel = -1

func (k kernel) String() string {
	if k == kProduct {
		return "of cuBLASLt"
	}
	return kernelNames[k]
}
