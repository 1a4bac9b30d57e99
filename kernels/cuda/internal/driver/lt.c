//go:build cuda

#include "lt.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

// Numbers from the library's manual: the same in versions 11 and 12.
enum { COMPUTE_32F = 68, REAL_32F = 0, TRANS_A = 3, TRANS_B = 4, EPILOGUE = 7, BIAS_POINTER = 8, BIAS_TYPE = 26, EPILOGUE_BIAS = 4 };
enum { WISH_WORKSPACE = 1, WISH_ALIGN_A = 5, WISH_ALIGN_B = 6, WISH_ALIGN_C = 7, WISH_ALIGN_D = 8, OP_N = 0, OP_T = 1 };

static Lt lt;
static char why[512];

const char *shoal_lt_load(const char *path) {
	static const char *const places[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11",
		"/usr/local/cuda/lib64/libcublasLt.so", NULL};
	void *l = NULL;
	if (*path)
		l = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	else
		for (int i = 0; places[i] && !l; i++) l = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
	if (!l) {
		const char *e = dlerror();
		snprintf(why, sizeof why, "%s", *path && e ? e : "no libcublasLt.so.13, .12 or .11");
		return why;
	}
	struct {
		const char *name;
		void *to;
	} names[] = {
		{"cublasLtGetVersion", &lt.version}, {"cublasLtCreate", &lt.create}, {"cublasLtDestroy", &lt.destroy},
		{"cublasLtMatmulDescCreate", &lt.descCreate}, {"cublasLtMatmulDescSetAttribute", &lt.descSet},
		{"cublasLtMatmulDescDestroy", &lt.descDestroy}, {"cublasLtMatrixLayoutCreate", &lt.layoutCreate},
		{"cublasLtMatrixLayoutDestroy", &lt.layoutDestroy}, {"cublasLtMatmulPreferenceCreate", &lt.wishCreate},
		{"cublasLtMatmulPreferenceSetAttribute", &lt.wishSet}, {"cublasLtMatmulPreferenceDestroy", &lt.wishDestroy},
		{"cublasLtMatmulAlgoGetHeuristic", &lt.choose}, {"cublasLtMatmul", &lt.matmul},
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		void *f = dlsym(l, names[i].name);
		if (!f) {
			snprintf(why, sizeof why, "cuBLASLt has no %s", names[i].name);
			return why;
		}
		memcpy(names[i].to, &f, sizeof f);
	}
	return NULL;
}

size_t shoal_lt_version(void) { return lt.version(); }
int shoal_lt_create(void **handle) { return lt.create(handle); }
int shoal_lt_destroy(void *handle) { return lt.destroy(handle); }

static int describe(Plan *p, const Product *of) {
	int ta = of->transA ? OP_T : OP_N, tb = of->transB ? OP_T : OP_N, r;
	if ((r = lt.descCreate(&p->desc, COMPUTE_32F, REAL_32F))) return r;
	if ((r = lt.descSet(p->desc, TRANS_A, &ta, sizeof ta))) return r;
	if ((r = lt.descSet(p->desc, TRANS_B, &tb, sizeof tb))) return r;
	if (of->bias) {
		int epilogue = EPILOGUE_BIAS, type = of->typeD;
		if ((r = lt.descSet(p->desc, EPILOGUE, &epilogue, sizeof epilogue))) return r;
		if ((r = lt.descSet(p->desc, BIAS_TYPE, &type, sizeof type))) return r;
	}
	if ((r = lt.layoutCreate(&p->a, of->type, of->transA ? of->k : of->m, of->transA ? of->m : of->k, of->lda))) return r;
	if ((r = lt.layoutCreate(&p->b, of->type, of->transB ? of->n : of->k, of->transB ? of->k : of->n, of->ldb))) return r;
	return lt.layoutCreate(&p->d, of->typeD, of->m, of->n, of->ldd);
}

static int choose(Plan *p, const Product *of) {
	void *wish = NULL;
	int r = lt.wishCreate(&wish), found = 0;
	if (r) return r;
	struct {
		int attribute;
		const void *v;
		size_t bytes;
	} wishes[] = {{WISH_WORKSPACE, &p->spaceBytes, sizeof p->spaceBytes}, {WISH_ALIGN_A, &of->alignA, 4}, {WISH_ALIGN_B, &of->alignB, 4},
		{WISH_ALIGN_C, &of->alignD, 4}, {WISH_ALIGN_D, &of->alignD, 4}};
	for (size_t i = 0; !r && i < sizeof wishes / sizeof *wishes; i++) r = lt.wishSet(wish, wishes[i].attribute, wishes[i].v, wishes[i].bytes);
	if (!r) r = lt.choose(p->handle, p->desc, p->a, p->b, p->d, p->d, wish, 1, &p->choice, &found);
	lt.wishDestroy(wish);
	if (r) return r;
	return found < 1 || p->choice.state ? -1 : 0;
}

int shoal_lt_plan(Plan *p, const Product *of) {
	int r = describe(p, of);
	if (!r) r = choose(p, of);
	if (r) shoal_lt_drop(p);
	return r;
}

void shoal_lt_drop(Plan *p) {
	if (p->desc) lt.descDestroy(p->desc);
	if (p->a) lt.layoutDestroy(p->a);
	if (p->b) lt.layoutDestroy(p->b);
	if (p->d) lt.layoutDestroy(p->d);
	p->desc = p->a = p->b = p->d = NULL;
}

int shoal_lt_run(const Plan *p, CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr bias, int add, CUstream s) {
	float one = 1, beta = add ? 1 : 0;
	if (bias) {
		int r = lt.descSet(p->desc, BIAS_POINTER, &bias, sizeof bias);
		if (r) return r;
	}
	return lt.matmul(p->handle, p->desc, &one, (void *)a, p->a, (void *)b, p->b, &beta, (void *)d, p->d, (void *)d, p->d, p->choice.algo,
		(void *)p->space, p->spaceBytes, s);
}
