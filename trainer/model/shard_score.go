package model

import (
	"context"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// scoreShard is Score where each shard has some rows of the head. Per token, the logarithm of the sum over the vocabulary
// and the target's logit are put together from what each shard has; then each computes the gradient of its own rows, and
// the gradients of h are added up.
func (m *Model) scoreShard(ctx context.Context, c *Ctx, h autograd.Var, coef kernels.Tensor) (s Scores, err error) {
	n, voc := h.T.Rows, m.shard.of(m.Config.Vocab)
	t := shardTargets(c.Targets(), voc)
	target := c.ints(t.local, 1)
	s.LogP = c.Alloc(n, 1)
	lse := c.Alloc(n, 1)
	o := kernels.Head{H: h.T, W: c.Factor(m.head), Compute: c.Compute, Target: target, LogP: s.LogP, LSE: lse, Softcap: m.Config.LogitCap}
	c.S.Head(o)
	logp, all := make([]float32, n), make([]float32, n)
	if err := c.S.Download(logp, s.LogP); err != nil {
		return s, err
	}
	if err := c.S.Download(all, lse); err != nil {
		return s, err
	}
	logit := make([]float32, n) // of the local target
	for i := range logit {
		logit[i] = logp[i] + all[i]
	}
	if err := logSum(ctx, c.Group, all); err != nil {
		return s, err
	}
	own := make([]float32, n)
	for i, mine := range t.mine {
		if mine {
			own[i] = logit[i]
		}
	}
	if err := c.Group.Sum(ctx, own); err != nil {
		return s, err
	}
	for i, y := range c.Targets() {
		if logp[i] = own[i] - all[i]; y < 0 {
			logp[i] = 0
		}
	}
	c.S.Upload(s.LogP, logp)
	if coef.None() {
		return s, nil
	}
	c.S.Upload(lse, all)
	return m.gradShard(ctx, c, h, coef, o, s, t, logit)
}

// gradShard runs the head backward. A token whose target another shard has counts here as one with the shard's first row
// as its target, since the softmax over all rows has a gradient all the same; what that adds to the row is taken back.
func (m *Model) gradShard(ctx context.Context, c *Ctx, h autograd.Var, coef kernels.Tensor, o kernels.Head, s Scores, t targets, logit []float32) (Scores, error) {
	n := h.T.Rows
	s.DH = c.Alloc(n, h.T.Cols)
	back := o
	back.LogP, back.Coef, back.DH = kernels.Tensor{}, coef, s.DH
	var mode kernels.Mode
	back.DW, mode = c.GradOf(m.head)
	back.SetW = mode == kernels.Set
	c.S.Head(back)

	host := make([]float32, n)
	if err := c.S.Download(host, coef); err != nil {
		return s, err
	}
	for i := range host {
		if t.mine[i] || t.local[i] < 0 {
			host[i] = 0
			continue
		}
		slope := 1.0
		if bound := float64(m.Config.LogitCap); bound != 0 {
			slope -= math.Pow(float64(logit[i])/bound, 2) // of tanh
		}
		host[i] *= -float32(slope)
	}
	k := c.Alloc(n, 1)
	c.S.Upload(k, host)
	first := o.W.SliceRows(0, 1)
	c.S.MatMul(s.DH, k, first, kernels.MatMul{Mode: kernels.Add, Compute: c.Compute})
	if !back.DW.None() {
		c.S.MatMul(back.DW.SliceRows(0, 1), k, h.T, kernels.MatMul{TA: true, Mode: kernels.Add, Compute: c.Compute})
	}
	dh := make([]float32, s.DH.Len())
	if err := c.S.Download(dh, s.DH); err != nil {
		return s, err
	}
	if err := c.Group.Sum(ctx, dh); err != nil {
		return s, err
	}
	c.S.Upload(s.DH, dh)
	return s, nil
}

// targets are those of a batch as a shard sees them.
type targets struct {
	local []int32 // row of the shard; 0 where another one has it, -1 where there is no target
	mine  []bool
}

func shardTargets(all []int32, voc run) (t targets) {
	for _, y := range all {
		mine := int(y) >= voc.lo && int(y) < voc.hi
		local := int32(0)
		if mine {
			local = y - int32(voc.lo)
		} else if y < 0 {
			local = -1
		}
		t.local, t.mine = append(t.local, local), append(t.mine, mine)
	}
	return t
}

// logSum makes v, logarithms of sums, the logarithm of the sum over all shards.
func logSum(ctx context.Context, g Group, v []float32) error {
	top, sum := append([]float32(nil), v...), make([]float32, len(v))
	if err := g.Max(ctx, top); err != nil {
		return err
	}
	for i := range v {
		sum[i] = float32(math.Exp(float64(v[i] - top[i])))
	}
	if err := g.Sum(ctx, sum); err != nil {
		return err
	}
	for i := range v {
		v[i] = float32(float64(top[i]) + math.Log(float64(sum[i])))
	}
	return nil
}
