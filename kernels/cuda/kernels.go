//go:build cuda

package cuda

// kernel is an index of kernelNames.
type kernel int

// The kernels, as they are called in src.
const (
	kFill kernel = iota
	kCopy
	kAdd
	kMul
	kScale
	kWeightedSum
	kQuotient
	kOverRoot
	kSwiglu
	kSwigluBack
	kGelu
	kGeluBack
	kRelu
	kReluBack
	kTanh
	kTanhBack
	kDrop
	kRope
	kRMSNorm
	kRMSNormBack
	kLayerNorm
	kLayerNormBack
	kColumnParts
	kColumnFold
	kSumSquares
	kSquaresFold
	kArgMax
	kCheckRows
	kMoveRows
	kScatterAdd
	kAdamW
	kLion
	kSGD
	kMomentum
	kSophia
	kAverageSquares
	kFactorRows
	kFactorColumns
	kFactorMean
	kFactorSquares
	kFactorRate
	kFactorStep
	kEncode8
	kDecode8
	kAdamW8
	kGemmF32
	kGemmBF16
	kGemmF16
	kCheckSequences
	kAttend32
	kAttend64
	kAttend128
	kAttend256
	kAttendBackQ32
	kAttendBackQ64
	kAttendBackQ128
	kAttendBackQ256
	kAttendDelta
	kAttendBackK32
	kAttendBackK64
	kAttendBackK128
	kAttendBackK256
	kHeadRow
	kAttendBF64
	kAttendBF128
	kAttendF64
	kAttendF128
	kAttendBackQBF64
	kAttendBackQBF128
	kAttendBackQF64
	kAttendBackQF128
	kAttendBackKBF64
	kAttendBackKBF128
	kAttendBackKF64
	kAttendBackKF128
	kAddRMSNorm
	kAddLayerNorm
	kEncodeWire
	kDecodeWire
	numKernels
)

var kernelNames = [numKernels]string{
	kFill:             "fill",
	kCopy:             "copy",
	kAdd:              "add",
	kMul:              "mul",
	kScale:            "scale",
	kWeightedSum:      "weightedSum",
	kQuotient:         "quotient",
	kOverRoot:         "overRoot",
	kSwiglu:           "swiglu",
	kSwigluBack:       "swigluBack",
	kGelu:             "gelu",
	kGeluBack:         "geluBack",
	kRelu:             "relu",
	kReluBack:         "reluBack",
	kTanh:             "tanhOf",
	kTanhBack:         "tanhBack",
	kDrop:             "drop",
	kRope:             "rope",
	kRMSNorm:          "rmsNorm",
	kRMSNormBack:      "rmsNormBack",
	kLayerNorm:        "layerNorm",
	kLayerNormBack:    "layerNormBack",
	kColumnParts:      "columnParts",
	kColumnFold:       "columnFold",
	kSumSquares:       "sumSquares",
	kSquaresFold:      "squaresFold",
	kArgMax:           "argMax",
	kCheckRows:        "checkRows",
	kMoveRows:         "moveRows",
	kScatterAdd:       "scatterAdd",
	kAdamW:            "adamW",
	kLion:             "lion",
	kSGD:              "sgd",
	kMomentum:         "momentum",
	kSophia:           "sophia",
	kAverageSquares:   "averageSquares",
	kFactorRows:       "factorRows",
	kFactorColumns:    "factorColumns",
	kFactorMean:       "factorMean",
	kFactorSquares:    "factorSquares",
	kFactorRate:       "factorRate",
	kFactorStep:       "factorStep",
	kEncode8:          "encode8",
	kDecode8:          "decode8",
	kAdamW8:           "adamW8",
	kGemmF32:          "gemmF32",
	kGemmBF16:         "gemmBF16",
	kGemmF16:          "gemmF16",
	kCheckSequences:   "checkSequences",
	kAttend32:         "attend32",
	kAttend64:         "attend64",
	kAttend128:        "attend128",
	kAttend256:        "attend256",
	kAttendBackQ32:    "attendBackQ32",
	kAttendBackQ64:    "attendBackQ64",
	kAttendBackQ128:   "attendBackQ128",
	kAttendBackQ256:   "attendBackQ256",
	kAttendDelta:      "attendDelta",
	kAttendBackK32:    "attendBackK32",
	kAttendBackK64:    "attendBackK64",
	kAttendBackK128:   "attendBackK128",
	kAttendBackK256:   "attendBackK256",
	kHeadRow:          "headRow",
	kAttendBF64:       "attendBF64",
	kAttendBF128:      "attendBF128",
	kAttendF64:        "attendF64",
	kAttendF128:       "attendF128",
	kAttendBackQBF64:  "attendBackQBF64",
	kAttendBackQBF128: "attendBackQBF128",
	kAttendBackQF64:   "attendBackQF64",
	kAttendBackQF128:  "attendBackQF128",
	kAttendBackKBF64:  "attendBackKBF64",
	kAttendBackKBF128: "attendBackKBF128",
	kAttendBackKF64:   "attendBackKF64",
	kAttendBackKF128:  "attendBackKF128",
	kAddRMSNorm:       "addRMSNorm",
	kAddLayerNorm:     "addLayerNorm",
	kEncodeWire:       "encodeWire",
	kDecodeWire:       "decodeWire",
}

// dynamicShared is the most bytes of dynamic shared memory that launches of a kernel ask for, where it is above 48 KiB.
var dynamicShared = [numKernels]int{
	kAttendBF64:       2 * (64 + 8) * (64 + 4*64),
	kAttendBF128:      2 * (128 + 8) * (64 + 4*64),
	kAttendBackQBF128: 2 * (128 + 8) * 2 * (64 + 2*32),
	kAttendBackKBF128: 2 * (128 + 8) * 2 * (64 + 2*32),
	kAttendF64:        2 * (64 + 8) * (64 + 4*64),
	kAttendF128:       2 * (128 + 8) * (64 + 4*64),
	kAttendBackQF128:  2 * (128 + 8) * 2 * (64 + 2*32),
	kAttendBackKF128:  2 * (128 + 8) * 2 * (64 + 2*32),
	kGemmBF16:         sharedBytes,
	kGemmF16:          sharedBytes,
	kAttend128:        forwardShared(128),
	kAttend256:        forwardShared(256),
	kAttendBackQ128:   backwardShared(128),
	kAttendBackQ256:   backwardShared(256),
	kAttendBackK64:    tileOfKeys[1].shared(64),
	kAttendBackK128:   tileOfKeys[2].shared(128),
	kAttendBackK256:   tileOfKeys[3].shared(256),
}

// kProduct stands for a product of cuBLASLt where a name is needed.
const kProduct kernel = -1

func (k kernel) String() string {
	if k == kProduct {
		return "of cuBLASLt"
	}
	return kernelNames[k]
}
