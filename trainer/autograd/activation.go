package autograd

import (
	"context"
	"math"
)

// SiLU is x·sigmoid(x) (Elfwing et al. 2018, arXiv:1702.03118).
func (t *Tape) SiLU(x Var) Var { return t.silu(x, 1) }

// steep is a power of two, so that products with it are exact, and so large that sigmoid(steep·x) is 0 or 1 wherever x
// is not smaller than float32 resolves beside other activations. steep·x overflows for |x| > 2⁶⁷, which is no activation.
const steep = 1 << 60

// ReLU is max(x, 0), as the limit of steeper and steeper SiLUs: silu(s·x)/s. It differs from max(x, 0) by less than 1e-18,
// and its slope at 0 is a half.
func (t *Tape) ReLU(x Var) Var { return t.Scale(t.silu(t.Scale(x, steep), 1), 1.0/steep) }

// silu is the SwiGLU of x and a constant.
func (t *Tape) silu(x Var, up float32) Var {
	one := t.Alloc(x.T.Rows, x.T.Cols)
	t.S.Fill(one, up)
	return t.SwiGLU(x, Const(one))
}

// Tanh runs on the host, in float64 rounded once: it is for values that are small and made once in a pass.
func (t *Tape) Tanh(x Var) Var {
	var y []float32
	f := HostFunc{
		Forward: func(_ context.Context, in, out [][]float32) error {
			for i, v := range in[0] {
				out[0][i] = float32(math.Tanh(float64(v)))
			}
			y = append(y[:0], out[0]...)
			return nil
		},
		Backward: func(_ context.Context, dOut, dIn [][]float32) error {
			for i, d := range dOut[0] {
				dIn[0][i] = float32(float64(d) * (1 - float64(y[i])*float64(y[i])))
			}
			return nil
		},
	}
	return t.Host(f, []Var{x}, Shape{x.T.Rows, x.T.Cols})[0]
}
