//go:build cuda

package driver

/*
#include "nvml.h"
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

var (
	nvmlOnce   sync.Once
	nvmlFailed error
)

// LoadNVML opens the management library at path, or where machines have it if path is empty. A process has one.
func LoadNVML(path string) error {
	nvmlOnce.Do(func() {
		p := C.CString(path)
		defer C.free(unsafe.Pointer(p))
		if r := C.shoal_nvml_load(p); r != 0 {
			nvmlFailed = fmt.Errorf("no libnvidia-ml.so.1 that answers (status %d)", int(r))
		}
	})
	return nvmlFailed
}

// Heat is what the GPU at a place of the bus draws, in watts, and how warm it is, in °C.
func Heat(bus string) (watts float64, celsius int, err error) {
	b := C.CString(bus)
	defer C.free(unsafe.Pointer(b))
	var mw, c C.uint
	if r := C.shoal_nvml_read(b, &mw, &c); r != 0 {
		return 0, 0, fmt.Errorf("nvml: status %d", int(r))
	}
	return float64(mw) / 1000, int(c), nil
}
