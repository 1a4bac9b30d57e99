//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// launcher turns commands into launches and sends them, on the device's thread. It allocates nothing once it is warm.
type launcher struct {
	dev    *Device
	list   *driver.Launches
	names  []kernel // of the launches in the list, to say which was refused
	stream driver.Stream
	funcs  [numKernels]driver.Function
	ops    [kernels.NumOps]operation
	err    error // the first of this Run
	lost   [4096]byte

	lt        *driver.Products  // nil: products take our own kernels
	temporary [3]kernels.Buffer // of operands that a product takes in another type
	convert   kernels.Cmd       // makes them
	inner     kernels.Cmd       // a product inside of a head
	logits    kernels.Buffer    // of a head
	depth     int               // of the operation at work
	products  int               // that cuBLASLt took so far
}

// A list takes the launches of a batch of commands; one that is full is sent and begun anew.
const (
	maxLaunches = 512
	maxArgBytes = 256 << 10
)

func newLauncher(d *Device, m *driver.Module, s driver.Stream) (*launcher, error) {
	l := &launcher{dev: d, stream: s, ops: operations(), list: driver.NewLaunches(maxLaunches, maxArgBytes), names: make([]kernel, 0, maxLaunches)}
	for k := range numKernels {
		f, err := m.Function(kernelNames[k])
		if err != nil {
			return nil, err
		}
		if n := dynamicShared[k]; n > 48<<10 && n <= d.gpu.SharedBytes { // else its launches are refused
			if err := f.Dynamic(n); err != nil {
				return nil, fmt.Errorf("%s: %w", kernelNames[k], err)
			}
		}
		l.funcs[k] = f
	}
	return l, nil
}

// run launches commands in order. It stops at the first that cannot be.
func (l *launcher) run(cmds []kernels.Cmd) error {
	l.err = nil
	for i := 0; i < len(cmds); i++ {
		c := &cmds[i]
		if c.Op == kernels.OpSumSq {
			n := sumsOfSquares(cmds[i:])
			if err := l.sumSquares(cmds[i : i+n]); err != nil {
				l.flush()
				return fmt.Errorf("%v: %w", c.Op, err)
			}
			i += n - 1
			continue
		}
		if err := l.one(c); err != nil {
			l.flush()
			return fmt.Errorf("%v: %w", c.Op, err)
		}
		if l.err != nil {
			return l.err
		}
	}
	l.flush()
	return l.err
}

// one launches a command.
func (l *launcher) one(c *kernels.Cmd) error {
	if c.Op == kernels.OpMatMul && l.lt != nil {
		if done, err := l.product(c); done || err != nil {
			return err
		}
	}
	op := l.ops[c.Op]
	if op == nil {
		return errors.New("the GPU has no kernel for it")
	}
	return op(l, c)
}

// add appends a launch and returns the place of its arguments. An empty grid is no launch.
func (l *launcher) add(k kernel, grid [3]uint32, threads, dynamic, bytes int) []byte {
	if grid[0] == 0 || grid[1] == 0 || grid[2] == 0 {
		return l.lost[:bytes]
	}
	if dynamic > l.dev.gpu.SharedBytes {
		if l.err == nil {
			l.err = fmt.Errorf("%v needs %d bytes of shared memory, this GPU has %d; use smaller heads, or the processor", k, dynamic, l.dev.gpu.SharedBytes)
		}
		return l.lost[:bytes]
	}
	place := l.list.Add(l.funcs[k], grid, threads, dynamic, bytes)
	if place == nil {
		l.flush()
		place = l.list.Add(l.funcs[k], grid, threads, dynamic, bytes)
	}
	l.names = append(l.names, k)
	return place
}

// flush sends what the list has.
func (l *launcher) flush() {
	at, err := l.list.Launch(l.stream)
	if err != nil && l.err == nil {
		l.err = l.dev.broken(fmt.Errorf("kernel %s: %w", l.names[at], err))
	}
	l.names = l.names[:0]
}
