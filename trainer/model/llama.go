package model

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// llama is the family of Llama (Touvron et al. 2023, arXiv:2302.13971), Mistral (arXiv:2310.06825), Qwen2
// (arXiv:2407.10671) and Qwen3 (arXiv:2505.09388). They differ in sliding windows, in which layers have biases, which the
// files decide, and in Qwen3's norms of queries and keys.
type llama struct {
	m      *Model
	tokens *autograd.Param
	norm   *autograd.Param
}

type llamaBlock struct {
	attention
	eps              float32
	attnNorm, ffNorm *autograd.Param
	q, k, v, o       *Linear
	qNorm, kNorm     *autograd.Param // (1, headDim) for each head; nil: none
	gate, up, down   *Linear
}

func (l *llama) embed(c *Ctx) autograd.Var { return c.embedTokens(l.tokens) }

func (l *llama) final(c *Ctx, x autograd.Var) autograd.Var {
	return c.RMSNorm(x, l.norm, l.m.Config.Eps, 0)
}

func (b *llamaBlock) Forward(c *Ctx, x autograd.Var) autograd.Var {
	h := c.RMSNorm(x, b.attnNorm, b.eps, 0)
	qkv := together(c, h, b.q, b.k, b.v)
	q, k, v := qkv[0], qkv[1], qkv[2]
	if b.qNorm != nil {
		q, k = c.RMSNorm(q, b.qNorm, b.eps, 0), c.RMSNorm(k, b.kNorm, b.eps, 0)
	}
	q, k = b.rotate(c, q, k)
	h = b.o.Forward(c, b.attention.forward(c, q, k, v))

	x, h = c.AddRMSNorm(x, c.branch(b.layer, AttentionBranch, h), b.ffNorm, b.eps, 0)
	ff := together(c, h, b.gate, b.up)
	h = b.down.Forward(c, c.SwiGLU(ff[0], ff[1]))
	return c.Add(x, c.branch(b.layer, FeedForwardBranch, h))
}

// buildLlama names the weights.
func buildLlama(b *builder) {
	c, f, m, sh := b.m.Config, b.local, b.m, b.m.shard
	l := &llama{m: m}
	m.ends = l
	l.tokens = b.tokens("model.embed_tokens.weight", f.Vocab, f.Hidden)
	for i := range f.Layers {
		b.unit = 1 + i
		path := fmt.Sprintf("model.layers.%d.", i)
		wide, narrow := f.Heads*f.HeadDim, f.KVHeads*f.HeadDim
		blk := &llamaBlock{attention: newAttention(f, i), eps: f.Eps}
		blk.attnNorm = b.norm(path+"input_layernorm.weight", f.Hidden)
		blk.q = b.outputs(c.Heads*c.HeadDim, sh.queries(c, 0)).linear(path+"self_attn.q_proj", f.Hidden, wide, false)
		blk.k = b.outputs(c.KVHeads*c.HeadDim, sh.keys(c, 0)).pooled(path+"self_attn.k_proj", f.Hidden, narrow, 0)
		blk.v = b.outputs(c.KVHeads*c.HeadDim, sh.keys(c, 0)).pooled(path+"self_attn.v_proj", f.Hidden, narrow, 0)
		if f.Type == "qwen3" {
			blk.qNorm = b.headNorm(path+"self_attn.q_norm.weight", f.HeadDim)
			blk.kNorm = b.headNorm(path+"self_attn.k_norm.weight", f.HeadDim)
		}
		blk.o = b.inputs(c.Heads*c.HeadDim, sh.queries(c, 0)).linear(path+"self_attn.o_proj", wide, f.Hidden, false)
		blk.ffNorm = b.norm(path+"post_attention_layernorm.weight", f.Hidden)
		blk.gate = b.outputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.gate_proj", f.Hidden, f.Inner, false)
		blk.up = b.outputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.up_proj", f.Hidden, f.Inner, false)
		blk.down = b.inputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.down_proj", f.Inner, f.Hidden, false)
		m.Blocks = append(m.Blocks, blk)
	}
	b.unit = m.headUnit()
	l.norm = b.norm("model.norm.weight", f.Hidden)
	b.head("lm_head.weight", l.tokens)
}
