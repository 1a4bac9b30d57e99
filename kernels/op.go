package kernels

// Op is the operation of a Cmd.
type Op uint16

// The operations, one for each method of Stream, with the places of their operands in Cmd.T, Cmd.I and Cmd.F.
const (
	OpNone           Op = iota
	OpMatMul            // T c a b bias absmax; I ta tb mode compute
	OpFill              // T x; F v
	OpCopy              // T dst src
	OpCopyRows          // T dst src rows
	OpAdd               // T dst a b
	OpMul               // T dst a b; I mode
	OpScale             // T dst src; I mode; F f
	OpSumRows           // T dst x; I mode
	OpRMSNorm           // T y rstd x w; F eps offset
	OpRMSNormBack       // T dx dw dy x w rstd; I mode; F offset
	OpLayerNorm         // T y stat x w b; F eps
	OpLayerNormBack     // T dx dw db dy x w stat; I mode
	OpRope              // T y x pos freq; I heads headdim inverse mode; F scale
	OpSwiGLU            // T y gate up
	OpSwiGLUBack        // T dgate dup dy gate up; I mode
	OpGELU              // T y x
	OpGELUBack          // T dx dy x; I mode
	OpAttention         // T o lse q k v qstart kstart klen prefixk prefixv; I heads kvheads headdim window maxq maxk - compute; F scale softcap
	OpAttentionBack     // T dq dk dv do q k v o lse qstart kstart klen prefixk prefixv dprefixk dprefixv; I as OpAttention, mode before compute; F as OpAttention
	OpGatherRows        // T dst table ids
	OpScatterAddRows    // T dtable dy ids order
	OpHead              // T h w bias target logp lse entropy best coef dh dw dbias; I modeh compute setw; F softcap logitscale
	OpDrop              // T y x step key; I mode seedlow seedhigh site; F rate
	OpSumSq             // T dst x; I mode
	OpWeightedSum       // T dst x; I mode; F f
	OpAdamW             // T w g m v hyper
	OpArgMax            // T dst x
	OpQuotient          // T dst x; F f
	OpLion              // T w g m hyper
	OpSGD               // T w g m hyper
	OpSophia            // T w g m c hyper
	OpAverageSquares    // T v g hyper
	OpAdafactor         // T w g r c hyper
	OpAdamW8            // T w g m v mscale vscale hyper
	OpEncode8           // T code scale x; I signed
	OpDecode8           // T x code scale; I signed
	OpReLU              // T y x
	OpReLUBack          // T dx dy x; I mode
	OpTanh              // T y x
	OpTanhBack          // T dx dy y; I mode
	OpOverRoot          // T dst a v
	OpAddRMSNorm        // T sum y rstd a b w; F eps offset
	OpAddLayerNorm      // T sum y stat a b w bias; F eps
	OpEncodeWire        // T code x; I form
	OpDecodeWire        // T x code; I form
	NumOps              // how many there are, for tables
)

var opNames = [NumOps]string{"None", "MatMul", "Fill", "Copy", "CopyRows", "Add", "Mul", "Scale", "SumRows", "RMSNorm",
	"RMSNormBack", "LayerNorm", "LayerNormBack", "Rope", "SwiGLU", "SwiGLUBack", "GELU", "GELUBack", "Attention",
	"AttentionBack", "GatherRows", "ScatterAddRows", "Head", "Drop", "SumSq", "WeightedSum", "AdamW", "ArgMax",
	"Quotient", "Lion", "SGD", "Sophia", "AverageSquares", "Adafactor", "AdamW8", "Encode8", "Decode8",
	"ReLU", "ReLUBack", "Tanh", "TanhBack", "OverRoot", "AddRMSNorm", "AddLayerNorm", "EncodeWire", "DecodeWire"}

// String is the name of the Stream method.
func (op Op) String() string {
	if op < NumOps {
		return opNames[op]
	}
	return "Op?"
}
