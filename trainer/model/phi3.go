package model

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// phi3Block is a block of Phi-3 (Abdin et al. 2024, arXiv:2404.14219): Llama's, with one product for queries, keys and
// values, and one for gate and up. What lies around the blocks is Llama's own.
type phi3Block struct {
	attention
	eps              float32
	attnNorm, ffNorm *autograd.Param
	qkv, o           *Linear
	gateUp, down     *Linear
}

func (b *phi3Block) Forward(c *Ctx, x autograd.Var) autograd.Var {
	h := c.RMSNorm(x, b.attnNorm, b.eps, 0)
	wide, narrow := b.heads*b.headDim, b.kvHeads*b.headDim
	qkv := c.Split(b.qkv.Forward(c, h), wide, narrow, narrow)
	q, k := b.rotate(c, qkv[0], qkv[1])
	h = b.o.Forward(c, b.attention.forward(c, q, k, qkv[2]))

	x, h = c.AddRMSNorm(x, c.branch(b.layer, AttentionBranch, h), b.ffNorm, b.eps, 0)
	inner := b.down.In()
	ff := c.Split(b.gateUp.Forward(c, h), inner, inner)
	h = b.down.Forward(c, c.SwiGLU(ff[0], ff[1]))
	return c.Add(x, c.branch(b.layer, FeedForwardBranch, h))
}

// buildPhi3 names the weights.
func buildPhi3(b *builder) {
	c, f, m, sh := b.m.Config, b.local, b.m, b.m.shard
	all, some := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	l := &llama{m: m}
	m.ends = l
	l.tokens = b.tokens("model.embed_tokens.weight", f.Vocab, f.Hidden)
	for i := range f.Layers {
		b.unit = 1 + i
		path := fmt.Sprintf("model.layers.%d.", i)
		wide, narrow := f.Heads*f.HeadDim, f.KVHeads*f.HeadDim
		m.Blocks = append(m.Blocks, &phi3Block{
			attention: newAttention(f, i),
			eps:       f.Eps,
			attnNorm:  b.norm(path+"input_layernorm.weight", f.Hidden),
			qkv:       b.outputs(all+2*some, sh.queries(c, 0), sh.keys(c, all), sh.keys(c, all+some)).pooled(path+"self_attn.qkv_proj", f.Hidden, wide+2*narrow, wide),
			o:         b.inputs(all, sh.queries(c, 0)).linear(path+"self_attn.o_proj", wide, f.Hidden, false),
			ffNorm:    b.norm(path+"post_attention_layernorm.weight", f.Hidden),
			gateUp:    b.outputs(2*c.Inner, sh.inner(c, 0), sh.inner(c, c.Inner)).linear(path+"mlp.gate_up_proj", f.Hidden, 2*f.Inner, false),
			down:      b.inputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.down_proj", f.Inner, f.Hidden, false),
		})
	}
	b.unit = m.headUnit()
	l.norm = b.norm("model.norm.weight", f.Hidden)
	b.head("lm_head.weight", l.tokens)
}
