package model

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// llama is the family of Llama (Touvron et al. 2023, arXiv:2302.13971), Mistral (arXiv:2310.06825) and Qwen2
// (arXiv:2407.10671). They differ in sliding windows and in which layers have biases, which the files decide.
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
	gate, up, down   *Linear
}

func (l *llama) embed(c *Ctx) autograd.Var { return c.embedTokens(l.tokens) }

func (l *llama) final(c *Ctx, x autograd.Var) autograd.Var {
	return c.RMSNorm(x, l.norm, l.m.Config.Eps)
}

func (b *llamaBlock) Forward(c *Ctx, x autograd.Var) autograd.Var {
	h := c.RMSNorm(x, b.attnNorm, b.eps)
	qkv := together(c, h, b.q, b.k, b.v)
	q := c.Rope(qkv[0], c.Seqs.Pos, c.Freq, b.heads, b.headDim)
	k := c.Rope(qkv[1], c.Seqs.Pos, c.Freq, b.kvHeads, b.headDim)
	h = b.o.Forward(c, b.attention.forward(c, q, k, qkv[2]))
	x = c.Add(x, c.branch(b.layer, AttentionBranch, h))

	h = c.RMSNorm(x, b.ffNorm, b.eps)
	ff := together(c, h, b.gate, b.up)
	h = b.down.Forward(c, c.SwiGLU(ff[0], ff[1]))
	return c.Add(x, c.branch(b.layer, FeedForwardBranch, h))
}

// buildLlama names the weights.
func buildLlama(b *builder) {
	f, m := b.m.Config, b.m
	l := &llama{m: m}
	m.ends = l
	l.tokens = b.table("model.embed_tokens.weight", f.Vocab, f.Hidden)
	for i := range f.Layers {
		b.unit = 1 + i
		path := fmt.Sprintf("model.layers.%d.", i)
		wide, narrow := f.Heads*f.HeadDim, f.KVHeads*f.HeadDim
		m.Blocks = append(m.Blocks, &llamaBlock{
			attention: attention{i, f.Heads, f.KVHeads, f.HeadDim, f.Windows[i]},
			eps:       f.Eps,
			attnNorm:  b.norm(path+"input_layernorm.weight", f.Hidden),
			q:         b.linear(path+"self_attn.q_proj", f.Hidden, wide, false),
			k:         b.linear(path+"self_attn.k_proj", f.Hidden, narrow, false),
			v:         b.linear(path+"self_attn.v_proj", f.Hidden, narrow, false),
			o:         b.linear(path+"self_attn.o_proj", wide, f.Hidden, false),
			ffNorm:    b.norm(path+"post_attention_layernorm.weight", f.Hidden),
			gate:      b.linear(path+"mlp.gate_proj", f.Hidden, f.Inner, false),
			up:        b.linear(path+"mlp.up_proj", f.Hidden, f.Inner, false),
			down:      b.linear(path+"mlp.down_proj", f.Inner, f.Hidden, false),
		})
	}
	b.unit = m.headUnit()
	l.norm = b.norm("model.norm.weight", f.Hidden)
	b.head("lm_head.weight", l.tokens)
}
