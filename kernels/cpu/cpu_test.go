package cpu_test

import (
	"runtime"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/kerneltest"
)

func TestConformance(t *testing.T) {
	names := map[string][]string{"amd64": {"cpu:avx512", "cpu:avx2"}, "arm64": {"cpu:neon"}}[runtime.GOARCH]
	for _, name := range append(names, "cpu:generic") {
		t.Run(name, func(t *testing.T) {
			dev, err := kernels.Open(name)
			if err != nil {
				t.Skip(err) // names the kernels that this processor runs
			}
			defer dev.Close()
			kerneltest.Run(t, dev)
		})
	}
}
