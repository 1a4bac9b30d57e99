package node

import (
	"math"
	"testing"
)

// TestHeapLimit: the collector gets what tensors leave, and a quarter at least.
func TestHeapLimit(t *testing.T) {
	for _, tc := range []struct{ most, tensors, want int64 }{
		{0, 1 << 30, math.MaxInt64},
		{1 << 30, 0, 1<<30 - besides},
		{1 << 30, 512 << 20, 416 << 20},
		{1 << 30, 1 << 30, 256 << 20},
	} {
		if got := heapLimit(tc.most, tc.tensors); got != tc.want {
			t.Errorf("%d of %d: %d, want %d", tc.tensors, tc.most, got, tc.want)
		}
	}
}
