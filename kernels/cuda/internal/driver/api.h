// The part of NVIDIA's driver interface that shoal calls, declared by us: names, argument types and numbers as its
// manual has them. Nothing of it is linked; load.c finds the functions when the program runs.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

// A copy of rows (CUDA_MEMCPY2D): types are 1 for the host, 2 for the device.
typedef struct {
	size_t srcX, srcY;
	int srcType;
	const void *srcHost;
	CUdeviceptr srcDevice;
	void *srcArray;
	size_t srcPitch, dstX, dstY;
	int dstType;
	void *dstHost;
	CUdeviceptr dstDevice;
	void *dstArray;
	size_t dstPitch, width, height;
} Copy2D;

// FUNCTIONS lists them: name in the library, arguments. Each returns a CUresult. Those of OPTIONAL may be missing.
#define FUNCTIONS(F) \
	F(cuInit, (unsigned flags)) \
	F(cuDriverGetVersion, (int *version)) \
	F(cuDeviceGetCount, (int *n)) \
	F(cuDeviceGet, (CUdevice *dev, int n)) \
	F(cuDeviceGetName, (char *name, int bytes, CUdevice dev)) \
	F(cuDeviceTotalMem_v2, (size_t *bytes, CUdevice dev)) \
	F(cuDeviceGetPCIBusId, (char *id, int bytes, CUdevice dev)) \
	F(cuDeviceGetAttribute, (int *v, int attribute, CUdevice dev)) \
	F(cuDevicePrimaryCtxRetain, (CUcontext *ctx, CUdevice dev)) \
	F(cuDevicePrimaryCtxRelease_v2, (CUdevice dev)) \
	F(cuCtxSetCurrent, (CUcontext ctx)) \
	F(cuCtxSynchronize, (void)) \
	F(cuMemGetInfo_v2, (size_t *unused, size_t *total)) \
	F(cuMemAlloc_v2, (CUdeviceptr *p, size_t bytes)) \
	F(cuMemFree_v2, (CUdeviceptr p)) \
	F(cuMemHostAlloc, (void **p, size_t bytes, unsigned flags)) \
	F(cuMemFreeHost, (void *p)) \
	F(cuMemcpyHtoDAsync_v2, (CUdeviceptr dst, const void *src, size_t bytes, CUstream s)) \
	F(cuMemcpyDtoHAsync_v2, (void *dst, CUdeviceptr src, size_t bytes, CUstream s)) \
	F(cuMemcpyDtoDAsync_v2, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream s)) \
	F(cuMemcpy2DAsync_v2, (const Copy2D *c, CUstream s)) \
	F(cuMemsetD8Async, (CUdeviceptr dst, unsigned char v, size_t bytes, CUstream s)) \
	F(cuStreamCreateWithPriority, (CUstream * s, unsigned flags, int priority)) \
	F(cuStreamDestroy_v2, (CUstream s)) \
	F(cuStreamSynchronize, (CUstream s)) \
	F(cuStreamWaitEvent, (CUstream s, CUevent e, unsigned flags)) \
	F(cuEventCreate, (CUevent * e, unsigned flags)) \
	F(cuEventDestroy_v2, (CUevent e)) \
	F(cuEventRecord, (CUevent e, CUstream s)) \
	F(cuEventSynchronize, (CUevent e)) \
	F(cuEventQuery, (CUevent e)) \
	F(cuEventElapsedTime, (float *ms, CUevent from, CUevent to)) \
	F(cuModuleLoadData, (CUmodule * m, const void *image)) \
	F(cuModuleUnload, (CUmodule m)) \
	F(cuModuleGetFunction, (CUfunction * f, CUmodule m, const char *name)) \
	F(cuFuncSetAttribute, (CUfunction f, int attribute, int v)) \
	F(cuFuncGetAttribute, (int *v, int attribute, CUfunction f)) \
	F(cuLaunchKernel, (CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned dynamic, \
		CUstream s, void **params, void **extra)) \
	F(cuGetErrorName, (CUresult r, const char **text)) \
	F(cuGetErrorString, (CUresult r, const char **text))

#define OPTIONAL(F) \
	F(cuStreamBeginCapture_v2, (CUstream s, int mode)) \
	F(cuStreamEndCapture, (CUstream s, CUgraph *g)) \
	F(cuGraphInstantiateWithFlags, (CUgraphExec * e, CUgraph g, unsigned long long flags)) \
	F(cuGraphLaunch, (CUgraphExec e, CUstream s)) \
	F(cuGraphExecDestroy, (CUgraphExec e)) \
	F(cuGraphDestroy, (CUgraph g))

typedef struct {
#define POINTER(name, args) CUresult(*name) args;
	FUNCTIONS(POINTER)
	OPTIONAL(POINTER)
#undef POINTER
} Api;

// api has a function for every name of FUNCTIONS: before a library is loaded, one that answers "no device".
extern Api api;

// shoal_load opens the driver's library, the one at path or, if that is empty, where machines have it. It returns NULL
// or why that did not succeed.
const char *shoal_load(const char *path);
// shoal_symbol is a further function of the loaded library, or NULL.
void *shoal_symbol(const char *name);
// shoal_call calls a function of the library that takes a number.
void shoal_call(void *f, uint64_t v);
// shoal_name calls one that takes text.
void shoal_name(void *f, const char *text);
// shoal_text calls one that writes at most so many bytes and returns how many it has.
size_t shoal_text(void *f, char *out, size_t bytes);

// Launch is one kernel launch: its arguments are args[at : at+bytes]. With a plan it is a product of cuBLASLt.
struct Plan;
typedef struct {
	CUfunction f;
	uint32_t grid[3], threads;
	uint32_t dynamic, at, bytes;
	int add;
	const struct Plan *plan;
	CUdeviceptr operand[4]; // a, b, d, bias
} Launch;

// shoal_launch launches n kernels in order. At the first that is refused it stops, with its index in *stopped. A status of
// cuBLASLt comes back as its negative.
CUresult shoal_launch(const Launch *l, int n, char *args, CUstream s, int *stopped);
