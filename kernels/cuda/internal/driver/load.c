//go:build cuda

#define _GNU_SOURCE
#include "lt.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_DEVICE 100
#define NOT_SUPPORTED 801

#define ABSENT(name, args) static CUresult absent_##name args { return NO_DEVICE; }
#define UNSUPPORTED(name, args) static CUresult absent_##name args { return NOT_SUPPORTED; }
#pragma GCC diagnostic ignored "-Wunused-parameter"
FUNCTIONS(ABSENT)
OPTIONAL(UNSUPPORTED)

#define INITIAL(name, args) .name = absent_##name,
Api api = {FUNCTIONS(INITIAL) OPTIONAL(INITIAL)};

static void *library;
static char why[512];

static void *find(const char *path) {
	static const char *const places[] = {"libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1", NULL};
	if (*path) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
	for (int i = 0; places[i]; i++) {
		void *l = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
		if (l) return l;
		if (i == 0) snprintf(why, sizeof why, "%s", dlerror());
	}
	return NULL;
}

const char *shoal_load(const char *path) {
	library = find(path);
	if (!library) {
		if (*path) snprintf(why, sizeof why, "%s", dlerror());
		return why;
	}
	Api found = api;
#define NEED(name, args) \
	if (!(found.name = (CUresult(*) args)dlsym(library, #name))) { \
		snprintf(why, sizeof why, "the driver has no %s: it is older than CUDA 11", #name); \
		return why; \
	}
#define TRY(name, args) \
	{ \
		void *f = dlsym(library, #name); \
		if (f) found.name = (CUresult(*) args)f; \
	}
	FUNCTIONS(NEED)
	OPTIONAL(TRY)
	api = found;
	return NULL;
}

void *shoal_symbol(const char *name) { return library ? dlsym(library, name) : NULL; }
void shoal_call(void *f, uint64_t v) { ((void (*)(uint64_t))f)(v); }
void shoal_name(void *f, const char *text) { ((void (*)(const char *))f)(text); }
size_t shoal_text(void *f, char *out, size_t bytes) { return ((size_t(*)(char *, size_t))f)(out, bytes); }

CUresult shoal_launch(const Launch *l, int n, char *args, CUstream s, int *stopped) {
	for (int i = 0; i < n; i++, l++) {
		if (l->plan) {
			const CUdeviceptr *o = l->operand;
			int r = shoal_lt_run(l->plan, o[0], o[1], o[2], o[3], l->add, s);
			if (r) return *stopped = i, -r;
			continue;
		}
		size_t bytes = l->bytes;
		void *extra[] = {(void *)1, args + l->at, (void *)2, &bytes, NULL}; // buffer pointer, buffer size, end
		CUresult r = api.cuLaunchKernel(l->f, l->grid[0], l->grid[1], l->grid[2], l->threads, 1, 1, l->dynamic, s, NULL, extra);
		if (r) {
			*stopped = i;
			return r;
		}
	}
	return 0;
}
