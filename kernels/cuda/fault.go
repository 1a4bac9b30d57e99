//go:build cuda

package cuda

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// faultWord is where kernels say that data made a command impossible: a row that does not exist, say. It lies in host
// memory that the GPU writes to, so that looking at it costs no copy. 0 is none, else the number of the Op.
type faultWord struct{ word *int32 }

func (f *faultWord) make(ctx *driver.Context) error {
	b, err := ctx.HostAlloc(64)
	if err != nil {
		return err
	}
	clear(b)
	f.word = (*int32)(unsafe.Pointer(&b[0]))
	return nil
}

// address is what kernels get.
func (f *faultWord) address() uint64 { return uint64(uintptr(unsafe.Pointer(f.word))) }

// take reports and forgets.
func (f *faultWord) take() error {
	op := kernels.Op(atomic.SwapInt32(f.word, 0))
	switch op {
	case kernels.OpNone:
		return nil
	case kernels.OpAttention, kernels.OpAttentionBack:
		return fmt.Errorf("%v: a sequence lies outside its tensors", op)
	case kernels.OpHead:
		return fmt.Errorf("%v: a target is not in the vocabulary", op)
	}
	return fmt.Errorf("%v: a row is not in the table", op)
}
