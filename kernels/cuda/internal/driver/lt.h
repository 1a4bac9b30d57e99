// The part of NVIDIA's cuBLASLt that shoal calls, declared by us as its manual has it, and found when the program runs.
#pragma once
#include "api.h"

typedef struct {
	uint64_t algo[8]; // opaque
	size_t workspace;
	int state;
	float waves;
	int reserved[4];
} LtChoice;

typedef struct {
	size_t (*version)(void);
	int (*create)(void **handle);
	int (*destroy)(void *handle);
	int (*descCreate)(void **desc, int compute, int scale);
	int (*descSet)(void *desc, int attribute, const void *v, size_t bytes);
	int (*descDestroy)(void *desc);
	int (*layoutCreate)(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
	int (*layoutDestroy)(void *layout);
	int (*wishCreate)(void **wish);
	int (*wishSet)(void *wish, int attribute, const void *v, size_t bytes);
	int (*wishDestroy)(void *wish);
	int (*choose)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *wish, int most, LtChoice *out, int *found);
	int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *layoutA, const void *b, void *layoutB, const void *beta,
		const void *c, void *layoutC, void *d, void *layoutD, const void *algo, void *workspace, size_t bytes, CUstream s);
} Lt;

// Product is what a plan is for: column-major d (m, n) = op(a) (m, k) · op(b) (k, n). Types are CUDA's.
typedef struct {
	uint64_t m, n, k;
	int64_t lda, ldb, ldd;
	int transA, transB, type, typeD, bias;
	uint32_t alignA, alignB, alignD; // bytes that addresses and rows are multiples of
} Product;

// Plan is a product with everything that does not change from one to the next.
typedef struct Plan {
	void *handle, *desc, *a, *b, *d;
	LtChoice choice;
	CUdeviceptr space;
	size_t spaceBytes;
} Plan;

const char *shoal_lt_load(const char *path);
size_t shoal_lt_version(void);
int shoal_lt_create(void **handle);
int shoal_lt_destroy(void *handle);
// shoal_lt_plan fills a plan whose handle and space are set. It returns 0, the library's status, or -1 if it knows no way.
int shoal_lt_plan(Plan *p, const Product *of);
void shoal_lt_drop(Plan *p);
// shoal_lt_run puts a product on a stream: d = a·b, or d += a·b.
int shoal_lt_run(const Plan *p, CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr bias, int add, CUstream s);
