//go:build cuda

package driver

/*
#include "api.h"
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Call calls a function void f(uint64_t) that the loaded library has beside the driver's: the emulator's switches.
func Call(name string, v uint64) error {
	f, err := symbol(name)
	if err == nil {
		C.shoal_call(f, C.uint64_t(v))
	}
	return err
}

// CallText is Call for void f(const char *).
func CallText(name, text string) error {
	f, err := symbol(name)
	if err != nil {
		return err
	}
	t := C.CString(text)
	defer C.free(unsafe.Pointer(t))
	C.shoal_name(f, t)
	return nil
}

// Text is what a function size_t f(char *out, size_t bytes) writes.
func Text(name string) (string, error) {
	f, err := symbol(name)
	if err != nil {
		return "", err
	}
	n := C.shoal_text(f, nil, 0)
	if n == 0 {
		return "", nil
	}
	out := C.malloc(n)
	defer C.free(out)
	C.shoal_text(f, (*C.char)(out), n)
	return C.GoStringN((*C.char)(out), C.int(n)), nil
}

func symbol(name string) (unsafe.Pointer, error) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	f := C.shoal_symbol(n)
	if f == nil {
		return nil, fmt.Errorf("the driver has no %s", name)
	}
	return f, nil
}
