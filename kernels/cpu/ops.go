package cpu

import "github.com/seed-7b27c88a/shoal/kernels"

// op carries out one command, of which the call has the views, with the whole device.
type op func(d *Device, x *call) error

var ops = [kernels.NumOps]op{
	kernels.OpMatMul:         matMul,
	kernels.OpFill:           fill,
	kernels.OpCopy:           convert,
	kernels.OpCopyRows:       copyRows,
	kernels.OpAdd:            add,
	kernels.OpMul:            mul,
	kernels.OpScale:          scale,
	kernels.OpSumRows:        sumRows,
	kernels.OpRMSNorm:        rmsNorm,
	kernels.OpRMSNormBack:    rmsNormBack,
	kernels.OpLayerNorm:      layerNorm,
	kernels.OpLayerNormBack:  layerNormBack,
	kernels.OpRope:           rope,
	kernels.OpSwiGLU:         swiGLU,
	kernels.OpSwiGLUBack:     swiGLUBack,
	kernels.OpGELU:           gelu,
	kernels.OpGELUBack:       geluBack,
	kernels.OpAttention:      attention,
	kernels.OpAttentionBack:  attentionBack,
	kernels.OpGatherRows:     gatherRows,
	kernels.OpScatterAddRows: scatterAddRows,
	kernels.OpHead:           head,
	kernels.OpDrop:           drop,
	kernels.OpSumSq:          sumSq,
	kernels.OpWeightedSum:    weightedSum,
	kernels.OpQuotient:       quotient,
	kernels.OpAdamW:          adamW,
	kernels.OpArgMax:         argMax,
	kernels.OpLion:           lion,
	kernels.OpSGD:            sgd,
	kernels.OpSophia:         sophia,
	kernels.OpAverageSquares: averageSquares,
	kernels.OpAdafactor:      adafactor,
	kernels.OpAdamW8:         adamW8,
	kernels.OpEncode8:        encode8,
	kernels.OpDecode8:        decode8,
}
