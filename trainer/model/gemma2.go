package model

import (
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// gemma2 is Gemma 2 (Gemma Team 2024, arXiv:2408.00118): norms before and after each half of a block, whose weights are
// stored less 1; embeddings times √C; GeGLU; bounded attention scores and logits; windows in every other layer.
type gemma2 struct {
	m      *Model
	tokens *autograd.Param
	norm   *autograd.Param
}

type gemma2Block struct {
	attention
	eps              float32
	attnNorm, ffNorm *autograd.Param // of what goes into a half
	attnPost, ffPost *autograd.Param // of what comes out of it
	q, k, v, o       *Linear
	gate, up, down   *Linear
}

func (g *gemma2) embed(c *Ctx) autograd.Var {
	return c.Scale(c.embedTokens(g.tokens), float32(math.Sqrt(float64(g.m.Config.Hidden))))
}

func (g *gemma2) final(c *Ctx, x autograd.Var) autograd.Var {
	return c.RMSNorm(x, g.norm, g.m.Config.Eps, 1)
}

func (b *gemma2Block) Forward(c *Ctx, x autograd.Var) autograd.Var {
	h := c.RMSNorm(x, b.attnNorm, b.eps, 1)
	qkv := together(c, h, b.q, b.k, b.v)
	q, k := b.rotate(c, qkv[0], qkv[1])
	h = b.o.Forward(c, b.attention.forward(c, q, k, qkv[2]))
	h = c.RMSNorm(h, b.attnPost, b.eps, 1)

	x, h = c.AddRMSNorm(x, c.branch(b.layer, AttentionBranch, h), b.ffNorm, b.eps, 1)
	ff := together(c, h, b.gate, b.up)
	h = b.down.Forward(c, c.Mul(c.GELU(ff[0]), ff[1])) // GeGLU (Shazeer 2020, arXiv:2002.05202)
	h = c.RMSNorm(h, b.ffPost, b.eps, 1)
	return c.Add(x, c.branch(b.layer, FeedForwardBranch, h))
}

// buildGemma2 names the weights.
func buildGemma2(b *builder) {
	c, f, m, sh := b.m.Config, b.local, b.m, b.m.shard
	g := &gemma2{m: m}
	m.ends = g
	g.tokens = b.tokens("model.embed_tokens.weight", f.Vocab, f.Hidden)
	for i := range f.Layers {
		b.unit = 1 + i
		path := fmt.Sprintf("model.layers.%d.", i)
		wide, narrow := f.Heads*f.HeadDim, f.KVHeads*f.HeadDim
		m.Blocks = append(m.Blocks, &gemma2Block{
			attention: newAttention(f, i),
			eps:       f.Eps,
			attnNorm:  b.norm(path+"input_layernorm.weight", f.Hidden),
			q:         b.outputs(c.Heads*c.HeadDim, sh.queries(c, 0)).linear(path+"self_attn.q_proj", f.Hidden, wide, false),
			k:         b.outputs(c.KVHeads*c.HeadDim, sh.keys(c, 0)).pooled(path+"self_attn.k_proj", f.Hidden, narrow, 0),
			v:         b.outputs(c.KVHeads*c.HeadDim, sh.keys(c, 0)).pooled(path+"self_attn.v_proj", f.Hidden, narrow, 0),
			o:         b.inputs(c.Heads*c.HeadDim, sh.queries(c, 0)).linear(path+"self_attn.o_proj", wide, f.Hidden, false),
			attnPost:  b.norm(path+"post_attention_layernorm.weight", f.Hidden),
			ffNorm:    b.norm(path+"pre_feedforward_layernorm.weight", f.Hidden),
			gate:      b.outputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.gate_proj", f.Hidden, f.Inner, false),
			up:        b.outputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.up_proj", f.Hidden, f.Inner, false),
			down:      b.inputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.down_proj", f.Inner, f.Hidden, false),
			ffPost:    b.norm(path+"post_feedforward_layernorm.weight", f.Hidden),
		})
	}
	b.unit = m.headUnit()
	g.norm = b.norm("model.norm.weight", f.Hidden)
	b.head("lm_head.weight", g.tokens)
}
