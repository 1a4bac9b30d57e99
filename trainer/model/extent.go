package model

import (
	"io"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Raw is where p's bytes lie: in which of the opened files, and the range [lo, hi) there.
func (m *Model) Raw(p *autograd.Param) (r io.ReaderAt, lo, hi int64, err error) {
	section, _, err := m.set.Raw(m.stored[p])
	if err != nil {
		return nil, 0, 0, err
	}
	r, lo, n := section.Outer()
	return r, lo, lo + n, nil
}
