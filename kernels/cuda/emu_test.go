//go:build cuda && cudaemu

package cuda

import (
	"fmt"
	"os"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/emu"
)

// TestMain puts the emulator where the driver's library would be, unless a library is named.
func TestMain(m *testing.M) {
	if os.Getenv(LibraryVar) == "" {
		path, err := emu.Library(".")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Setenv(LibraryVar, path)
		os.Setenv(NVMLVar, path)
		os.Setenv("SHOAL_EMU_DEVICES", "2")
		if os.Getenv(LtVar) == "" {
			os.Setenv(LtVar, "none")
		}
	}
	os.Exit(m.Run())
}
