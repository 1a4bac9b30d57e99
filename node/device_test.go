package node

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// TestSeveralDevices: a job takes the device with the least memory in use, and closing closes all.
func TestSeveralDevices(t *testing.T) {
	s := &several{}
	for range 3 {
		dev, err := kernels.Open("cpu:generic")
		if err != nil {
			t.Fatal(err)
		}
		s.all = append(s.all, dev)
	}
	s.Device = s.all[0]
	for i, bytes := range []int{3000, 1000, 2000} {
		if _, err := s.all[i].Alloc(bytes); err != nil {
			t.Fatal(err)
		}
	}
	if s.Pick() != s.all[1] {
		t.Error("did not pick the device with the least memory in use")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoGPU: without one, auto is the processor, and asking for one says why there is none.
func TestNoGPU(t *testing.T) {
	t.Setenv("SHOAL_LIBCUDA", "/nowhere")
	dev, err := OpenDaemonDevice("auto", config.Limits{})
	if err != nil || dev.Info().Name != "cpu" {
		t.Fatal(dev, err)
	}
	dev.Close()
	checks := gpuChecks("auto")
	if len(checks) != 1 || !checks[0].OK || checks[0].Detail == "" {
		t.Errorf("auto without a GPU: %+v", checks)
	}
	if checks := gpuChecks("cuda:0"); len(checks) != 1 || checks[0].OK || checks[0].Fix == "" {
		t.Errorf("cuda:0 without a GPU: %+v", checks)
	}
}
