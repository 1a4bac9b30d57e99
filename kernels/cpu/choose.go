package cpu

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// chooseFamily finds a family by name, or the best that this processor runs.
func chooseFamily(name string) (*family, error) {
	have := families()
	if name == "" {
		return have[0].settle(), nil
	}
	i := slices.IndexFunc(have, func(f *family) bool { return f.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no kernels %q on this processor: it runs %s", name, strings.Join(names(have), ", "))
	}
	return have[i].settle(), nil
}

func names(fs []*family) []string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = f.name
	}
	return out
}

// settle measures what the processor's features do not tell: some load wide vectors at half the rate, some multiply
// them at half the rate or with a slower clock. It keeps the fastest microkernel for few columns, and takes it for all
// products if it beats the wide one clearly. This takes about three milliseconds; all microkernels give the same bits.
func (f *family) settle() *family {
	if len(f.slim) < 2 {
		return f
	}
	best, pace := f.slim[0], f.slim[0].pace()
	for _, m := range f.slim[1:] {
		if p := m.pace(); p < pace {
			best, pace = m, p
		}
	}
	f.slim = []microkernel{best}
	if f.gemm.pace() > 1.1*pace {
		f.gemm = best
	}
	return f
}

// pace is the nanoseconds that a microkernel takes for a multiply-add on panels in the cache: the median of the second
// half of many runs, when the processor has settled on a clock.
func (m *microkernel) pace() float64 {
	const depth, runs, each = 256, 64, 8
	a, b, c := make([]float32, m.mr*depth), make([]float32, m.nr*depth), make([]float32, m.mr*m.nr)
	var took [runs]time.Duration
	for i := range took {
		start := time.Now()
		for range each {
			m.run(depth, &a[0], &b[0], &c[0], m.nr, 1, &a[0], &c[0])
		}
		took[i] = time.Since(start)
	}
	late := took[runs/2:]
	slices.Sort(late)
	return float64(late[len(late)/2]) / float64(each*depth*m.mr*m.nr)
}
