package model

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// attention is the shape of one layer's attention.
type attention struct {
	layer, heads, kvHeads, headDim int
	window                         int     // keys that a query sees, itself among them; 0: all
	scale, cap                     float32 // of the scores: factor, and bound (0: none)
	ropeScale                      float32
}

func newAttention(c *Config, layer int) attention {
	return attention{layer, c.Heads, c.KVHeads, c.HeadDim, c.Windows[layer], c.Scale, c.AttnCap, c.RopeScale}
}

// rotate turns queries and keys by their positions.
func (a *attention) rotate(c *Ctx, q, k autograd.Var) (autograd.Var, autograd.Var) {
	return c.Rope(q, c.Seqs.Pos, c.Freq, a.heads, a.headDim, a.ropeScale), c.Rope(k, c.Seqs.Pos, c.Freq, a.kvHeads, a.headDim, a.ropeScale)
}

// forward attends from q (N, heads·headDim) to k, v (N, kvHeads·headDim) and what the cache holds of them.
func (a *attention) forward(c *Ctx, q, k, v autograd.Var) autograd.Var {
	if c.Cache != nil {
		keys, values := c.Cache.Append(c.S, a.layer, k.T, v.T)
		k, v = autograd.Const(keys), autograd.Const(values)
	}
	spec := kernels.AttnSpec{
		Seqs: &c.Seqs, Heads: a.heads, KVHeads: a.kvHeads, HeadDim: a.headDim, Window: a.window,
		Scale: a.scale, Softcap: a.cap,
	}
	if o, ok := c.Over.(PrefixOverlay); ok {
		pk, pv := o.Prefix(c, a.layer)
		return c.PrefixAttention(q, k, v, pk, pv, spec)
	}
	return c.Attention(q, k, v, spec)
}
