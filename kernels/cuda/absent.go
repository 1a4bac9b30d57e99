//go:build !cuda

package cuda

import (
	"errors"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// ErrAbsent says that the program was built without CUDA.
var ErrAbsent = errors.New("this build has no CUDA; build with -tags cuda and CGO_ENABLED=1")

func init() {
	kernels.Register("cuda", func(string) (kernels.Device, error) { return nil, ErrAbsent })
}

// Find says what GPUs there are: none that this build can use.
func Find() (*Found, error) { return nil, ErrAbsent }

// OpenNamed opens no GPU.
func OpenNamed(string, Options) (kernels.Device, error) { return nil, ErrAbsent }
