//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels"

// normArgs is NormArgs of src/norm.cu.
type normArgs struct {
	y, x, stat, w, b, dy, other mat
	eps, offset                 float32
	add, pad                    int32
}

// rowThreads is how many threads a row of so many columns gets: a run of eight elements each, as far as there are.
func rowThreads(cols int32) int { return min(256, max(32, (int(cols)+255)/256*32)) }

func (l *launcher) norm(k kernel, a normArgs) {
	*launch[normArgs](l, k, int(a.x.rows), rowThreads(a.x.cols), 0) = a
}

func rmsNorm(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	l.norm(kRMSNorm, normArgs{y: matOf(&t[0]), stat: matOf(&t[1]), x: matOf(&t[2]), w: matOf(&t[3]), eps: c.F[0], offset: c.F[1]})
	return nil
}

// rmsNormBack sums for the weights first: dx may take dy's place.
func rmsNormBack(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	a := normArgs{y: matOf(&t[0]), dy: matOf(&t[2]), x: matOf(&t[3]), w: matOf(&t[4]), stat: matOf(&t[5]), offset: c.F[0], add: c.I[0]}
	if err := l.columns(sumRMS, &t[1], a.x, a.dy, a.stat, true); err != nil {
		return err
	}
	l.norm(kRMSNormBack, a)
	return nil
}

func layerNorm(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	l.norm(kLayerNorm, normArgs{y: matOf(&t[0]), stat: matOf(&t[1]), x: matOf(&t[2]), w: matOf(&t[3]), b: matOf(&t[4]), eps: c.F[0]})
	return nil
}

func layerNormBack(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	a := normArgs{y: matOf(&t[0]), dy: matOf(&t[3]), x: matOf(&t[4]), w: matOf(&t[5]), stat: matOf(&t[6]), add: c.I[0]}
	if err := l.columns(sumLayer, &t[1], a.x, a.dy, a.stat, true); err != nil {
		return err
	}
	if err := l.columns(sumX, &t[2], a.dy, mat{}, mat{}, true); err != nil {
		return err
	}
	l.norm(kLayerNormBack, a)
	return nil
}

func addRMSNorm(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	l.norm(kAddRMSNorm, normArgs{x: matOf(&t[0]), y: matOf(&t[1]), stat: matOf(&t[2]), dy: matOf(&t[3]), other: matOf(&t[4]), w: matOf(&t[5]),
		eps: c.F[0], offset: c.F[1]})
	return nil
}

func addLayerNorm(l *launcher, c *kernels.Cmd) error {
	t := &c.T
	l.norm(kAddLayerNorm, normArgs{x: matOf(&t[0]), y: matOf(&t[1]), stat: matOf(&t[2]), dy: matOf(&t[3]), other: matOf(&t[4]), w: matOf(&t[5]),
		b: matOf(&t[6]), eps: c.F[0]})
	return nil
}
