//go:build cuda

package driver

/*
#include "api.h"
#include <stdlib.h>

static CUresult retain(CUcontext *c, CUdevice d) { return api.cuDevicePrimaryCtxRetain(c, d); }
static CUresult release(CUdevice d) { return api.cuDevicePrimaryCtxRelease_v2(d); }
static CUresult set_current(CUcontext c) { return api.cuCtxSetCurrent(c); }
static CUresult synchronize(void) { return api.cuCtxSynchronize(); }
static CUresult mem_info(size_t *f, size_t *t) { return api.cuMemGetInfo_v2(f, t); }
static CUresult mem_alloc(CUdeviceptr *p, size_t n) { return api.cuMemAlloc_v2(p, n); }
static CUresult mem_free(CUdeviceptr p) { return api.cuMemFree_v2(p); }
static CUresult host_alloc(void **p, size_t n) { return api.cuMemHostAlloc(p, n, 3); } // for all contexts, and kernels reach it
static CUresult host_free(void *p) { return api.cuMemFreeHost(p); }
static CUresult module_load(CUmodule *m, const void *image) { return api.cuModuleLoadData(m, image); }
static CUresult module_function(CUfunction *f, CUmodule m, const char *name) { return api.cuModuleGetFunction(f, m, name); }
static CUresult func_set(CUfunction f, int a, int v) { return api.cuFuncSetAttribute(f, a, v); }
static CUresult stream_create(CUstream *s) { return api.cuStreamCreateWithPriority(s, 1, 0); } // does not wait for the null stream
static CUresult stream_sync(CUstream s) { return api.cuStreamSynchronize(s); }
static CUresult stream_wait(CUstream s, CUevent e) { return api.cuStreamWaitEvent(s, e, 0); }
static CUresult event_create(CUevent *e, int timing) { return api.cuEventCreate(e, timing ? 0 : 2); }
static CUresult event_record(CUevent e, CUstream s) { return api.cuEventRecord(e, s); }
static CUresult event_query(CUevent e) { return api.cuEventQuery(e); }
static CUresult event_sync(CUevent e) { return api.cuEventSynchronize(e); }
static CUresult event_elapsed(float *ms, CUevent a, CUevent b) { return api.cuEventElapsedTime(ms, a, b); }
static CUresult set_bytes(CUdeviceptr p, unsigned char v, size_t n, CUstream s) { return api.cuMemsetD8Async(p, v, n, s); }
static CUresult copy_rows(int up, CUdeviceptr dev, size_t pitch, void *host, size_t width, size_t height, CUstream s) {
	if (up && (height == 1 || pitch == width)) return api.cuMemcpyHtoDAsync_v2(dev, host, width * height, s);
	if (height == 1 || pitch == width) return api.cuMemcpyDtoHAsync_v2(host, dev, width * height, s);
	Copy2D c = {.width = width, .height = height};
	c.srcType = up ? 1 : 2, c.dstType = up ? 2 : 1;
	c.srcHost = host, c.dstHost = host, c.srcDevice = dev, c.dstDevice = dev;
	c.srcPitch = up ? width : pitch, c.dstPitch = up ? pitch : width;
	return api.cuMemcpy2DAsync_v2(&c, s);
}
*/
import "C"

import "unsafe"

// Ptr is an address in device memory.
type Ptr uint64

// Context is a GPU's primary context, current on the thread that opened it.
type Context struct {
	dev *Device
	raw C.CUcontext
}

// Open takes the device's primary context, which other libraries of this process share, and makes it current on this
// thread. The caller has locked its goroutine to the thread.
func (d *Device) Open() (*Context, error) {
	c := &Context{dev: d}
	if err := check("cuDevicePrimaryCtxRetain", C.retain(&c.raw, d.raw)); err != nil {
		return nil, err
	}
	return c, check("cuCtxSetCurrent", C.set_current(c.raw))
}

// Close gives the context up.
func (c *Context) Close() error { return check("cuDevicePrimaryCtxRelease", C.release(c.dev.raw)) }

// Sync waits for everything of the context.
func (c *Context) Sync() error { return check("cuCtxSynchronize", C.synchronize()) }

// Memory is how many bytes of the GPU are free, and how many it has.
func (c *Context) Memory() (free, total int64, err error) {
	var f, t C.size_t
	err = check("cuMemGetInfo", C.mem_info(&f, &t))
	return int64(f), int64(t), err
}

// Alloc takes device memory. It waits for the GPU: a matter of start-up.
func (c *Context) Alloc(bytes int) (Ptr, error) {
	var p C.CUdeviceptr
	err := check("cuMemAlloc", C.mem_alloc(&p, C.size_t(bytes)))
	return Ptr(p), err
}

// Free gives memory back, and waits for the GPU.
func (c *Context) Free(p Ptr) error { return check("cuMemFree", C.mem_free(C.CUdeviceptr(p))) }

// HostAlloc takes host memory that the GPU can reach by itself. It is outside the Go heap.
func (c *Context) HostAlloc(bytes int) ([]byte, error) {
	var p unsafe.Pointer
	if err := check("cuMemHostAlloc", C.host_alloc(&p, C.size_t(max(bytes, 1)))); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), bytes), nil
}

// HostFree gives memory of HostAlloc back.
func (c *Context) HostFree(b []byte) error {
	return check("cuMemFreeHost", C.host_free(unsafe.Pointer(unsafe.SliceData(b))))
}

// Module is loaded machine code.
type Module struct{ raw C.CUmodule }

// LoadModule loads a fatbin, a cubin or PTX.
func (c *Context) LoadModule(image string) (*Module, error) {
	p := C.CString(image) // PTX must end with a zero
	defer C.free(unsafe.Pointer(p))
	m := &Module{}
	return m, check("cuModuleLoadData", C.module_load(&m.raw, unsafe.Pointer(p)))
}

// Function is a kernel.
type Function struct{ raw C.CUfunction }

// Function finds a kernel by name.
func (m *Module) Function(name string) (Function, error) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	var f Function
	return f, check("cuModuleGetFunction "+name, C.module_function(&f.raw, m.raw, n))
}

const attrMaxDynamicShared = 8

// Dynamic allows launches with so many bytes of dynamic shared memory.
func (f Function) Dynamic(bytes int) error {
	return check("cuFuncSetAttribute", C.func_set(f.raw, attrMaxDynamicShared, C.int(bytes)))
}

// Stream runs what is put on it in order.
type Stream struct{ raw C.CUstream }

// NewStream makes a stream.
func (c *Context) NewStream() (Stream, error) {
	var s Stream
	return s, check("cuStreamCreate", C.stream_create(&s.raw))
}

// Sync waits for the stream.
func (s Stream) Sync() error { return check("cuStreamSynchronize", C.stream_sync(s.raw)) }

// Wait lets what is put on the stream from now on wait for an event.
func (s Stream) Wait(e Event) error { return check("cuStreamWaitEvent", C.stream_wait(s.raw, e.raw)) }

// Zero fills device memory with zeros.
func (s Stream) Zero(p Ptr, bytes int) error {
	return check("cuMemsetD8Async", C.set_bytes(C.CUdeviceptr(p), 0, C.size_t(bytes), s.raw))
}

// Upload copies packed rows of width bytes from memory of HostAlloc to rows that are pitch bytes apart.
func (s Stream) Upload(dst Ptr, pitch int, src []byte, width, rows int) error {
	return check("upload", C.copy_rows(1, C.CUdeviceptr(dst), C.size_t(pitch), unsafe.Pointer(&src[0]), C.size_t(width), C.size_t(rows), s.raw))
}

// Download copies rows of width bytes that are pitch bytes apart to memory of HostAlloc.
func (s Stream) Download(dst []byte, src Ptr, pitch, width, rows int) error {
	return check("download", C.copy_rows(0, C.CUdeviceptr(src), C.size_t(pitch), unsafe.Pointer(&dst[0]), C.size_t(width), C.size_t(rows), s.raw))
}

// Event is a point in a stream that others can wait for.
type Event struct{ raw C.CUevent }

// NewEvent makes an event, with a time if it is to be measured.
func (c *Context) NewEvent(timing bool) (Event, error) {
	t := C.int(0)
	if timing {
		t = 1
	}
	var e Event
	return e, check("cuEventCreate", C.event_create(&e.raw, t))
}

// Record puts the event at the end of the stream.
func (e Event) Record(s Stream) error { return check("cuEventRecord", C.event_record(e.raw, s.raw)) }

// Sync waits for the event.
func (e Event) Sync() error { return check("cuEventSynchronize", C.event_sync(e.raw)) }

// Passed tells whether the event has happened.
func (e Event) Passed() (bool, error) {
	const notReady = 600
	r := C.event_query(e.raw)
	if r == notReady {
		return false, nil
	}
	return r == 0, check("cuEventQuery", r)
}

// Millis is the time from one event to another, of events with times that have passed.
func Millis(from, to Event) (float64, error) {
	var ms C.float
	err := check("cuEventElapsedTime", C.event_elapsed(&ms, from.raw, to.raw))
	return float64(ms), err
}

// Launches is a list of kernel launches in C memory, launched by one call.
type Launches struct {
	list []C.Launch
	args []byte // 16-byte aligned pieces
	n    int
	used int
}

// NewLaunches makes a list of at most n launches with at most so many bytes of arguments.
func NewLaunches(n, argBytes int) *Launches {
	l := (*C.Launch)(C.calloc(C.size_t(n), C.sizeof_Launch))
	a := (*byte)(C.calloc(C.size_t(argBytes), 1))
	return &Launches{list: unsafe.Slice(l, n), args: unsafe.Slice(a, argBytes)}
}

// Free gives the list's memory back.
func (l *Launches) Free() {
	C.free(unsafe.Pointer(unsafe.SliceData(l.list)))
	C.free(unsafe.Pointer(unsafe.SliceData(l.args)))
	l.list, l.args = nil, nil
}

// Len is how many launches the list has.
func (l *Launches) Len() int { return l.n }

// Add appends a launch and returns where its arguments go, or nil if the list is full. blocks is the grid; bytes is the size of the
// kernel's argument struct.
func (l *Launches) Add(f Function, blocks [3]uint32, threads, dynamic, bytes int) []byte {
	if l.n == len(l.list) || l.used+bytes > len(l.args) {
		return nil
	}
	c := &l.list[l.n]
	c.plan = nil
	c.f, c.threads, c.dynamic, c.at, c.bytes = f.raw, C.uint32_t(threads), C.uint32_t(dynamic), C.uint32_t(l.used), C.uint32_t(bytes)
	for i, b := range blocks {
		c.grid[i] = C.uint32_t(b)
	}
	place := l.args[l.used : l.used+bytes]
	l.n, l.used = l.n+1, (l.used+bytes+15)&^15
	return place
}

// Clear empties the list.
func (l *Launches) Clear() { l.n, l.used = 0, 0 }

// Launch puts the launches on a stream and empties the list. With an error comes the index of the launch that was refused.
func (l *Launches) Launch(s Stream) (int, error) {
	if l.n == 0 {
		return 0, nil
	}
	var stopped C.int
	r := C.shoal_launch(&l.list[0], C.int(l.n), (*C.char)(unsafe.Pointer(&l.args[0])), s.raw, &stopped)
	l.Clear()
	if r < 0 {
		return int(stopped), &Error{Call: "cublasLtMatmul", Code: int(-r)}
	}
	return int(stopped), check("cuLaunchKernel", r)
}
