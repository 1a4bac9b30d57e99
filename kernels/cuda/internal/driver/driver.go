//go:build cuda

package driver

/*
#cgo CFLAGS: -O2
#cgo LDFLAGS: -ldl
#cgo noescape shoal_launch
#cgo nocallback shoal_launch
#include "api.h"
#include <stdlib.h>

static CUresult init_driver(int *version, int *count) {
	CUresult r = api.cuInit(0);
	if (!r) r = api.cuDriverGetVersion(version);
	return r ? r : api.cuDeviceGetCount(count);
}
static CUresult device_get(CUdevice *d, int n) { return api.cuDeviceGet(d, n); }
static CUresult device_name(char *s, int n, CUdevice d) { return api.cuDeviceGetName(s, n, d); }
static CUresult device_bus(char *s, int n, CUdevice d) { return api.cuDeviceGetPCIBusId(s, n, d); }
static CUresult device_memory(size_t *n, CUdevice d) { return api.cuDeviceTotalMem_v2(n, d); }
static CUresult device_attribute(int *v, int a, CUdevice d) { return api.cuDeviceGetAttribute(v, a, d); }
static const char *error_text(CUresult r) {
	const char *s = NULL;
	return api.cuGetErrorString(r, &s) || !s ? "" : s;
}
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

// Error is a number that the driver returned.
type Error struct {
	Call string
	Code int
	Text string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s: error %d", e.Call, e.Code)
	}
	return fmt.Sprintf("%s: error %d, %s", e.Call, e.Code, e.Text)
}

// Fatal tells whether the driver's context is of no use any more: the process must end to use the GPU again.
func (e *Error) Fatal() bool {
	return e.Code >= 700 && e.Code < 720 && e.Code != 701 && e.Code != 704 && e.Code != 705 // all but too many resources and peer access
}

const outOfMemory = 2

// OutOfMemory tells whether the device has no memory left.
func (e *Error) OutOfMemory() bool { return e.Code == outOfMemory }

func check(call string, r C.CUresult) error {
	if r == 0 {
		return nil
	}
	return &Error{Call: call, Code: int(r), Text: C.GoString(C.error_text(r))}
}

// Driver is a loaded library.
type Driver struct {
	Version int // 12040 is CUDA 12.4
	Devices int
}

var (
	once   sync.Once
	loaded *Driver
	failed error
)

// Load opens the driver at path, or where machines have it if path is empty, and starts it. A process has one driver:
// later calls return what the first did.
func Load(path string) (*Driver, error) {
	once.Do(func() { loaded, failed = load(path) })
	return loaded, failed
}

func load(path string) (*Driver, error) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	if why := C.shoal_load(p); why != nil {
		return nil, fmt.Errorf("no NVIDIA driver: %s", C.GoString(why))
	}
	var version, count C.int
	if err := check("cuInit", C.init_driver(&version, &count)); err != nil {
		return nil, fmt.Errorf("the NVIDIA driver finds no GPU: %w", err)
	}
	if count == 0 {
		return nil, fmt.Errorf("the NVIDIA driver finds no GPU")
	}
	return &Driver{Version: int(version), Devices: int(count)}, nil
}

// Device is what a GPU says of itself.
type Device struct {
	Index           int
	Name, Bus       string
	Bytes           int64
	Major, Minor    int // compute capability
	Multiprocessors int
	SharedBytes     int // of a block, if a kernel asks for it

	raw C.CUdevice
}

// Numbers of attributes, from the driver's manual.
const (
	attrMultiprocessors = 16
	attrMajor           = 75
	attrMinor           = 76
	attrSharedOptIn     = 97
)

// Device describes the n-th GPU.
func (d *Driver) Device(n int) (*Device, error) {
	dev := &Device{Index: n}
	if err := check("cuDeviceGet", C.device_get(&dev.raw, C.int(n))); err != nil {
		return nil, err
	}
	var text [128]C.char
	if err := check("cuDeviceGetName", C.device_name(&text[0], C.int(len(text)), dev.raw)); err != nil {
		return nil, err
	}
	dev.Name = C.GoString(&text[0])
	if err := check("cuDeviceGetPCIBusId", C.device_bus(&text[0], C.int(len(text)), dev.raw)); err != nil {
		return nil, err
	}
	dev.Bus = C.GoString(&text[0])
	var bytes C.size_t
	if err := check("cuDeviceTotalMem", C.device_memory(&bytes, dev.raw)); err != nil {
		return nil, err
	}
	dev.Bytes = int64(bytes)
	for a, v := range map[int]*int{attrMultiprocessors: &dev.Multiprocessors, attrMajor: &dev.Major, attrMinor: &dev.Minor, attrSharedOptIn: &dev.SharedBytes} {
		var x C.int
		if err := check("cuDeviceGetAttribute", C.device_attribute(&x, C.int(a), dev.raw)); err != nil {
			return nil, err
		}
		*v = int(x)
	}
	return dev, nil
}
