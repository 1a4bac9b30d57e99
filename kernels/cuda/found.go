package cuda

import (
	"errors"
	"fmt"
)

// ErrFault says that the GPU stopped at a fault. The process must end before the GPU serves again.
var ErrFault = errors.New("the GPU stopped at a fault")

// Found is what the driver says of this machine.
type Found struct {
	Driver string // "12.4": the newest CUDA that the driver serves
	GPUs   []GPU
	Lt     string // version of cuBLASLt, or empty
	LtWhy  string // why there is none: products then take our own kernels
}

// GPU is one device.
type GPU struct {
	Index           int
	Name, Bus       string
	Bytes           int64
	Capability      string // "9.0"
	Multiprocessors int
	Why             string // why it cannot be used, or empty
}

// String is the GPU in a line.
func (g GPU) String() string {
	if g.Name == "" {
		return g.Why
	}
	s := fmt.Sprintf("%s, %.1f GiB, compute capability %s, %d multiprocessors, at %s", g.Name, float64(g.Bytes)/(1<<30), g.Capability,
		g.Multiprocessors, g.Bus)
	if g.Why != "" {
		s += ": not used, " + g.Why
	}
	return s
}
