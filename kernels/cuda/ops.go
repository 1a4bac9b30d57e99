//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

// operation launches a command.
type operation func(l *launcher, c *kernels.Cmd) error

// operations says how each operation is launched.
func operations() [kernels.NumOps]operation {
	return [kernels.NumOps]operation{
		kernels.OpFill:        mapped(kFill, 1, noMode),
		kernels.OpCopy:        mapped(kCopy, 2, noMode),
		kernels.OpAdd:         mapped(kAdd, 3, noMode),
		kernels.OpMul:         mul,
		kernels.OpScale:       mapped(kScale, 2, 0),
		kernels.OpWeightedSum: mapped(kWeightedSum, 2, 0),
		kernels.OpQuotient:    mapped(kQuotient, 2, noMode),
		kernels.OpOverRoot:    mapped(kOverRoot, 3, noMode),
		kernels.OpSwiGLU:      mapped(kSwiglu, 3, noMode),
		kernels.OpSwiGLUBack:  mapped(kSwigluBack, 5, 0),
		kernels.OpGELU:        mapped(kGelu, 2, noMode),
		kernels.OpGELUBack:    mapped(kGeluBack, 3, 0),
		kernels.OpReLU:        mapped(kRelu, 2, noMode),
		kernels.OpReLUBack:    mapped(kReluBack, 3, 0),
		kernels.OpTanh:        mapped(kTanh, 2, noMode),
		kernels.OpTanhBack:    mapped(kTanhBack, 3, 0),
		kernels.OpDrop:        drop,
		kernels.OpRope:        rope,

		kernels.OpMatMul:        matMul,
		kernels.OpAttention:     attention,
		kernels.OpAttentionBack: attentionBack,
		kernels.OpHead:          head,

		kernels.OpRMSNorm:       rmsNorm,
		kernels.OpRMSNormBack:   rmsNormBack,
		kernels.OpLayerNorm:     layerNorm,
		kernels.OpLayerNormBack: layerNormBack,
		kernels.OpAddRMSNorm:    addRMSNorm,
		kernels.OpAddLayerNorm:  addLayerNorm,

		kernels.OpSumRows: sumRows,
		kernels.OpSumSq:   sumSq,
		kernels.OpArgMax:  argMax,

		kernels.OpCopyRows:       copyRows,
		kernels.OpGatherRows:     gatherRows,
		kernels.OpScatterAddRows: scatterAddRows,

		kernels.OpAdamW:          updated(kAdamW, 4),
		kernels.OpLion:           updated(kLion, 3),
		kernels.OpSGD:            sgd,
		kernels.OpSophia:         updated(kSophia, 4),
		kernels.OpAverageSquares: updated(kAverageSquares, 2),
		kernels.OpAdafactor:      adafactor,
		kernels.OpEncode8:        encode8,
		kernels.OpDecode8:        decode8,
		kernels.OpAdamW8:         adamW8,

		kernels.OpEncodeWire: encodeWire,
		kernels.OpDecodeWire: decodeWire,
	}
}
