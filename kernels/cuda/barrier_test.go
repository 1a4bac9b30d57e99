//go:build cuda && cudaemu

package cuda

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
	"github.com/seed-7b27c88a/shoal/kernels/kerneltest"
)

// skipVar names the environment variable with the place in a kernel that does not synchronise: "norm.cu:31".
const skipVar = "SHOAL_EMU_SKIP"

// TestEveryBarrierIsNeeded takes each place where kernels wait for each other away, one at a time, and expects that the
// conformance suite notices, with one of a few orders of the threads. So the emulator shows what it would not forgive,
// and no kernel waits for nothing.
func TestEveryBarrierIsNeeded(t *testing.T) {
	if testing.Short() || os.Getenv(skipVar) != "" {
		t.Skip("run without -short")
	}
	reached, err := whoReaches(t)
	if err != nil {
		t.Fatal(err)
	}
	for site, names := range reached {
		t.Run(site, func(t *testing.T) {
			t.Parallel()
			place, _, _ := strings.Cut(site, " ")
			for _, name := range names {
				for _, seed := range []string{"1", "2", "3", "4", "5", "6"} {
					if noticed(t, place, seed, name) {
						return
					}
				}
			}
			t.Errorf("nobody misses it; tests that come by: %v", names)
		})
	}
}

// whoReaches runs the suite and tells for each place which tests come by.
func whoReaches(t *testing.T) (map[string][]string, error) {
	reached := map[string][]string{}
	d := open(t, Options{Apart: true})
	for _, name := range kerneltest.Names() {
		if err := driver.Call("shoalEmuForget", 0); err != nil {
			return nil, err
		}
		t.Run(name, func(t *testing.T) { kerneltest.RunApart(t, d, name) })
		text, err := driver.Text("shoalEmuSites")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			site := strings.TrimSpace(line)
			if !slices.Contains(reached[site], name) { // inlined code has a place in each file
				reached[site] = append(reached[site], name)
			}
		}
	}
	return reached, nil
}

// noticed runs one test in another process with a place taken away.
func noticed(t *testing.T, place, seed, name string) bool {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestConformance$/^"+name+"$", "-test.failfast")
	cmd.Env = append(os.Environ(), skipVar+"="+place, "SHOAL_EMU_SEED="+seed)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	return err != nil
}
