package cpu_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/kerneltest"
)

func TestConformance(t *testing.T) {
	for _, name := range []string{"cpu:avx512", "cpu:avx2", "cpu:generic"} {
		t.Run(name, func(t *testing.T) {
			dev, err := kernels.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			kerneltest.Run(t, dev)
		})
	}
}
