package optim

// Outer is the outer step of a diloco job: descent with Nesterov momentum along the mean of what members changed in a
// round (Douillard et al. 2023, arXiv:2311.08105, algorithm 1; Sutskever et al. 2013 as PyTorch has it). It runs on the
// host, once a round: each operation is rounded once, in the order written, so that all members get the same bits.
type Outer struct{ LR, Momentum float64 }

// Step takes w to w - LR·(delta + Momentum·m), after m became Momentum·m + delta. m may be nil where there is no momentum.
func (o Outer) Step(w, m, delta []float32) {
	lr, mu := float32(o.LR), float32(o.Momentum)
	for i, d := range delta {
		if m != nil {
			m[i] = float32(mu*m[i]) + d
			d += float32(mu * m[i])
		}
		w[i] -= float32(lr * d)
	}
}

// Remembers tells whether there is momentum to keep.
func (o Outer) Remembers() bool { return o.Momentum != 0 }
