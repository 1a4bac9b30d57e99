package autograd

import (
	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// PrefixAttention is Attention in which every query also sees the keys pk and values pv, both (P, KVHeads·HeadDim),
// whatever its sequence and window.
func (t *Tape) PrefixAttention(q, k, v, pk, pv Var, spec kernels.AttnSpec) Var {
	pk, pv = t.wide(pk), t.wide(pv)
	spec.PrefixK, spec.PrefixV, spec.Compute = pk.T, pv.T, t.Compute
	o, lse := t.result(q), t.Alloc(q.T.Rows, spec.Heads)
	t.S.Attention(o, lse, q.T, k.T, v.T, spec)
	want := q.Wants() || k.Wants() || v.Wants() || pk.Wants() || pv.Wants()
	return t.made(o, want, (*Tape).prefixAttentionBack,
		kept{x: [3]Var{q, k, v}, t: [2]kernels.Tensor{o, lse}, attn: spec, cols: []Var{pk, pv}})
}

func (t *Tape) prefixAttentionBack(n *node, do kernels.Tensor) {
	if pk, pv := n.cols[0], n.cols[1]; pk.Wants() || pv.Wants() {
		n.attn.DPrefixK, n.attn.DPrefixV = t.cleared(pk), t.cleared(pv)
	}
	t.attentionBack(n, do)
}

// cleared is the gradient of v, ready to be added to.
func (t *Tape) cleared(v Var) kernels.Tensor {
	d, mode := t.dstOrScratch(v)
	if mode == kernels.Set {
		t.S.Fill(d, 0)
	}
	return d
}

// wide is x in float32.
func (t *Tape) wide(x Var) Var {
	if x.T.Type == dtype.F32 {
		return x
	}
	y := t.Alloc(x.T.Rows, x.T.Cols)
	t.S.Copy(y, x.T)
	return t.made(y, x.Wants(), (*Tape).scaleBack, kept{x: [3]Var{x}, f: 1})
}
