package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu" // registers the cpu device
	"github.com/seed-7b27c88a/shoal/kernels/cuda"  // registers the cuda device, or one that says why there is none
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

func (n *Node) openDevice(context.Context) error {
	dev, err := OpenDevice(n.cfg.Device)
	if err != nil {
		return err
	}
	n.onClose(dev.Close)
	spare(dev, n.cfg.Limits)
	n.dev = dev
	return nil
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
	dev, err := OpenDevice(cfg.Device)
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
