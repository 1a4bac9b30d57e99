package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu" // registers the cpu device
	"github.com/seed-7b27c88a/shoal/kernels/cuda"  // registers the cuda device, or one that says why there is none
	"github.com/seed-7b27c88a/shoal/kernels/cuda/worker"
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// openDevice opens the device of jobs. GPUs are kept in processes of their own: what a fault poisons is not the daemon.
func (n *Node) openDevice(context.Context) error {
	dev, err := OpenDaemonDevice(n.cfg.Device, n.cfg.Limits)
	if err != nil {
		return err
	}
	n.onClose(dev.Close)
	spare(dev, n.cfg.Limits)
	n.dev = dev
	return nil
}

// OpenDaemonDevice opens what jobs compute on: "auto", "cpu", or GPUs by number, as in "cuda:0,1".
func OpenDaemonDevice(name string, l config.Limits) (kernels.Device, error) {
	auto := name == "auto" || name == ""
	list, gpu := strings.CutPrefix(name, "cuda")
	if !auto && !gpu {
		return OpenDevice(name)
	}
	numbers := strings.Split(strings.TrimPrefix(list, ":"), ",")
	if auto {
		numbers = usableGPUs()
	}
	s := &several{}
	for _, n := range numbers {
		dev, err := startWorker(n, l)
		if err == nil {
			s.all = append(s.all, dev)
			continue
		}
		if !auto {
			return nil, errors.Join(fmt.Errorf("device: %w; \"shoal doctor gpu\" tells more", err), s.Close())
		}
	}
	switch len(s.all) {
	case 0:
		return OpenDevice("cpu")
	case 1:
		return s.all[0], nil
	}
	s.Device = s.all[0]
	return s, nil
}

// usableGPUs are the numbers of those that shoal can use.
func usableGPUs() (out []string) {
	found, err := cuda.Find()
	if err != nil {
		return nil
	}
	for _, g := range found.GPUs {
		if g.Why == "" {
			out = append(out, strconv.Itoa(g.Index))
		}
	}
	return out
}

// WorkerVerb is the hidden command that serves a GPU to a daemon.
const WorkerVerb = "gpu-worker"

// startWorker starts this program once more, as the process of a GPU.
func startWorker(number string, l config.Limits) (kernels.Device, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if number == "" {
		number = "0"
	}
	dev, err := worker.Start(func() *exec.Cmd { return exec.Command(self, WorkerVerb, number) }, gpuCaps(l))
	if err != nil {
		return nil, err // not a device that is nil
	}
	return dev, nil
}

// ServeWorker is the process of a GPU: it does what the daemon asks on in, until in ends.
func ServeWorker(number string, in io.Reader, out io.Writer) error {
	dev, err := cuda.OpenNamed(number, cuda.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	return worker.Serve(dev, in, out)
}

// gpuCaps are the limits of GPUs.
func gpuCaps(l config.Limits) cuda.Caps {
	return cuda.Caps{Bytes: int64(l.MaxGPUMemory), Watts: l.MaxGPUPower, Celsius: l.MaxGPUTemp}
}

// several are the GPUs of a node. As a device it is the first of them; each job picks its own.
type several struct {
	kernels.Device
	all []kernels.Device
}

// Pick is the device that has the least memory in use.
func (s *several) Pick() kernels.Device {
	best := s.all[0]
	for _, d := range s.all[1:] {
		if d.Info().InUse < best.Info().InUse {
			best = d
		}
	}
	return best
}

// Info is the first GPU's, with all names.
func (s *several) Info() kernels.Info {
	i := s.all[0].Info()
	for _, d := range s.all[1:] {
		_, n, _ := strings.Cut(d.Info().Name, ":")
		i.Name += "," + n
	}
	return i
}

// Limit puts caps in force on each.
func (s *several) Limit(c cuda.Caps) error {
	var errs []error
	for _, d := range s.all {
		if l, ok := d.(interface{ Limit(c cuda.Caps) error }); ok {
			errs = append(errs, l.Limit(c))
		}
	}
	return errors.Join(errs...)
}

// Close closes all.
func (s *several) Close() error {
	var errs []error
	for _, d := range s.all {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// OpenDevice opens a device by its name; "auto" takes the first GPU that works, else the processor.
func OpenDevice(name string) (kernels.Device, error) {
	if name == "auto" || name == "" {
		if dev, err := kernels.Open("cuda"); err == nil {
			return dev, nil
		}
		name = "cpu" // "doctor gpu" says why
	}
	dev, err := kernels.Open(name)
	if err != nil {
		return nil, fmt.Errorf("device: %w; \"shoal doctor\" tells more", err)
	}
	return dev, nil
}

func checkDevice(cfg config.Config) api.Check {
	c := api.Check{Name: "device", Part: partGPU}
	dev, err := OpenDaemonDevice(cfg.Device, cfg.Limits)
	if err != nil {
		c.Detail, c.Fix = err.Error(), "set device to auto or cpu"
		return c
	}
	i := dev.Info()
	dev.Close()
	c.OK, c.Detail = true, deviceLine(i)
	return c
}

func deviceLine(i kernels.Info) string {
	return fmt.Sprintf("%s: %s, %s, %d workers", i.Name, i.Model, i.Kernel, i.Workers)
}

// partGPU marks the checks that "shoal doctor gpu" shows.
const partGPU = "gpu"

// gpuChecks say what the driver finds. A machine without a GPU is fine unless one was asked for.
func gpuChecks(device string) []api.Check {
	asked := strings.HasPrefix(device, "cuda")
	found, err := cuda.Find()
	if err != nil {
		c := api.Check{Name: "gpu", Part: partGPU, OK: !asked, Detail: err.Error()}
		if asked {
			c.Fix = "install NVIDIA's driver, take a build with CUDA, or set device to auto"
		} else {
			c.Detail = "none is used: " + c.Detail
		}
		return []api.Check{c}
	}
	checks := []api.Check{{Name: "driver", Part: partGPU, OK: true, Detail: "serves CUDA " + found.Driver}}
	for _, g := range found.GPUs {
		c := api.Check{Name: fmt.Sprintf("cuda:%d", g.Index), Part: partGPU, OK: g.Why == "" || !asked, Detail: g.String()}
		if !c.OK {
			c.Fix = "set device to auto or cpu"
		}
		checks = append(checks, c)
	}
	products := "cuBLASLt " + found.Lt
	if found.Lt == "" {
		products = "own kernels, cuBLASLt is not there: " + found.LtWhy
	}
	return append(checks, api.Check{Name: "products", Part: partGPU, OK: true, Detail: products})
}
