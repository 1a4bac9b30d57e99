package model

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// gpt2 is GPT-2 (Radford et al. 2019): learned positions, LayerNorm, one fused projection for queries, keys and values.
type gpt2 struct {
	m                 *Model
	tokens, positions *autograd.Param
	normW, normB      *autograd.Param
}

type gpt2Block struct {
	attention
	eps                                    float32
	attnNormW, attnNormB, ffNormW, ffNormB *autograd.Param
	qkv, o, up, down                       *Linear
}

func (g *gpt2) embed(c *Ctx) autograd.Var {
	return c.Add(c.embedTokens(g.tokens), c.Gather(g.positions, c.Positions))
}

func (g *gpt2) final(c *Ctx, x autograd.Var) autograd.Var {
	return c.LayerNorm(x, g.normW, g.normB, g.m.Config.Eps)
}

func (b *gpt2Block) Forward(c *Ctx, x autograd.Var) autograd.Var {
	h := c.LayerNorm(x, b.attnNormW, b.attnNormB, b.eps)
	width := b.heads * b.headDim
	qkv := c.Split(b.qkv.Forward(c, h), width, width, width)
	h = b.o.Forward(c, b.attention.forward(c, qkv[0], qkv[1], qkv[2]))

	x, h = c.AddLayerNorm(x, c.branch(b.layer, AttentionBranch, h), b.ffNormW, b.ffNormB, b.eps)
	h = b.down.Forward(c, c.GELU(b.up.Forward(c, h)))
	return c.Add(x, c.branch(b.layer, FeedForwardBranch, h))
}

// buildGPT2 names the weights. Files come with and without the prefix "transformer."; adapters always name it.
func buildGPT2(b *builder) {
	c, f, m, sh := b.m.Config, b.local, b.m, b.m.shard
	g := &gpt2{m: m}
	m.ends = g
	if _, ok := b.m.set.Tensor("wte.weight"); ok {
		b.strip = "transformer."
	}
	g.tokens = b.tokens("transformer.wte.weight", f.Vocab, f.Hidden)
	g.positions = b.table("transformer.wpe.weight", f.MaxPos, f.Hidden)
	for i := range f.Layers {
		b.unit = 1 + i
		path := fmt.Sprintf("transformer.h.%d.", i)
		blk := &gpt2Block{attention: newAttention(f, i), eps: f.Eps}
		blk.attnNormW, blk.attnNormB = b.norm(path+"ln_1.weight", f.Hidden), b.norm(path+"ln_1.bias", f.Hidden)
		blk.qkv = b.outputs(3*c.Hidden, sh.queries(c, 0), sh.queries(c, c.Hidden), sh.queries(c, 2*c.Hidden)).linear(path+"attn.c_attn", f.Hidden, 3*f.Heads*f.HeadDim, true)
		blk.o = b.inputs(c.Hidden, sh.queries(c, 0)).linear(path+"attn.c_proj", f.Heads*f.HeadDim, f.Hidden, true)
		blk.ffNormW, blk.ffNormB = b.norm(path+"ln_2.weight", f.Hidden), b.norm(path+"ln_2.bias", f.Hidden)
		blk.up = b.outputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.c_fc", f.Hidden, f.Inner, true)
		blk.down = b.inputs(c.Inner, sh.inner(c, 0)).linear(path+"mlp.c_proj", f.Inner, f.Hidden, true)
		m.Blocks = append(m.Blocks, blk)
	}
	b.unit = m.headUnit()
	g.normW, g.normB = b.norm("transformer.ln_f.weight", f.Hidden), b.norm("transformer.ln_f.bias", f.Hidden)
	b.head("lm_head.weight", g.tokens)
}
