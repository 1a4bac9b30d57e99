// A cuBLASLt whose products are three loops: what shoal calls of it, so that plans, layouts and order can be tested.
#include "block.h"

#include <atomic>
#include <functional>
#include <vector>

#define SHOW extern "C" __attribute__((visibility("default"))) int

namespace {

enum { OK = 0, INVALID = 7, NOT_SUPPORTED = 15, F32 = 0, F16 = 2, BF16 = 14 };

struct Desc {
    int transA = 0, transB = 0, epilogue = 1, biasType = -1;
    const void *bias = nullptr;
};

struct Layout {
    int type;
    uint64_t rows, cols;
    int64_t ld;
};

struct Wish {
    size_t workspace = 0;
    uint32_t align[4] = {256, 256, 256, 256};
};

std::atomic<int> plans;

float get(const void *p, int type, int64_t i) {
    if (type == F32) return ((const float *)p)[i];
    unsigned h = ((const unsigned short *)p)[i];
    if (type == BF16) return __uint_as_float(h << 16);
    return (float)((const _Float16 *)p)[i];
}

void put(void *p, int type, int64_t i, float v) {
    if (type == F32) {
        ((float *)p)[i] = v;
        return;
    }
    unsigned u = __float_as_uint(v);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        u |= 0x400000;
    else
        u += 0x7fff + (u >> 16 & 1);
    ((unsigned short *)p)[i] = (unsigned short)(u >> 16);
}

} // namespace

extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 120000; }
SHOW cublasLtCreate(void **h) { return *h = new int, OK; }
SHOW cublasLtDestroy(void *h) { return delete (int *)h, OK; }
SHOW cublasLtMatmulDescCreate(void **d, int compute, int scale) { return *d = new Desc, compute == 68 && scale == F32 ? OK : NOT_SUPPORTED; }
SHOW cublasLtMatmulDescDestroy(void *d) { return delete (Desc *)d, OK; }
SHOW cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *v, size_t) {
    Desc *d = (Desc *)desc;
    switch (attribute) {
    case 3: d->transA = *(const int *)v; return OK;
    case 4: d->transB = *(const int *)v; return OK;
    case 7: d->epilogue = *(const int *)v; return OK;
    case 8: d->bias = *(const void *const *)v; return OK;
    case 26: d->biasType = *(const int *)v; return OK;
    }
    return INVALID;
}
SHOW cublasLtMatrixLayoutCreate(void **l, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (ld < (int64_t)rows) return INVALID;
    plans++;
    *l = new Layout{type, rows, cols, ld};
    return OK;
}
SHOW cublasLtMatrixLayoutDestroy(void *l) { return delete (Layout *)l, OK; }
SHOW cublasLtMatmulPreferenceCreate(void **w) { return *w = new Wish, OK; }
SHOW cublasLtMatmulPreferenceDestroy(void *w) { return delete (Wish *)w, OK; }
SHOW cublasLtMatmulPreferenceSetAttribute(void *wish, int attribute, const void *v, size_t) {
    Wish *w = (Wish *)wish;
    if (attribute == 1) return w->workspace = *(const size_t *)v, OK;
    if (attribute < 5 || attribute > 8) return INVALID;
    return w->align[attribute - 5] = *(const uint32_t *)v, OK;
}

// Choice is the library's answer to what algorithm to take: here it holds the alignments that it counts on.
struct Choice {
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
SHOW cublasLtMatmulAlgoGetHeuristic(void *, void *desc, void *a, void *b, void *, void *d, void *wish, int most, Choice *out, int *found) {
    Layout *la = (Layout *)a, *lb = (Layout *)b, *ld = (Layout *)d;
    Desc *what = (Desc *)desc;
    *found = 0;
    if (most < 1 || la->type != lb->type || (ld->type != F32 && ld->type != la->type) || ld->type == F16) return NOT_SUPPORTED;
    if (what->epilogue == 4 && what->biasType != ld->type) return NOT_SUPPORTED;
    uint64_t m = what->transA ? la->cols : la->rows, k = what->transA ? la->rows : la->cols;
    uint64_t kb = what->transB ? lb->cols : lb->rows, n = what->transB ? lb->rows : lb->cols;
    if (m != ld->rows || n != ld->cols || k != kb) return INVALID;
    *out = Choice{};
    for (int i = 0; i < 4; i++) out->algo[i] = ((Wish *)wish)->align[i];
    *found = 1;
    return OK;
}

SHOW cublasLtMatmul(void *, void *desc, const void *alpha, const void *a, void *layoutA, const void *b, void *layoutB, const void *beta, const void *c,
                    void *, void *d, void *layoutD, const void *algo, void *, size_t, void *stream) {
    Desc w = *(Desc *)desc;
    Layout la = *(Layout *)layoutA, lb = *(Layout *)layoutB, ld = *(Layout *)layoutD;
    float scale = *(const float *)alpha, keep = *(const float *)beta;
    const uint64_t *align = (const uint64_t *)algo;
    if ((uintptr_t)a % align[0] || (uintptr_t)b % align[1] || (uintptr_t)c % align[2] || (uintptr_t)d % align[3]) return INVALID;
    return emu::enqueue(stream, [=] {
        for (uint64_t j = 0; j < ld.cols; j++)
            for (uint64_t i = 0; i < ld.rows; i++) {
                uint64_t k = w.transA ? la.rows : la.cols;
                float s = 0;
                for (uint64_t t = 0; t < k; t++) {
                    int64_t ia = w.transA ? (int64_t)i * la.ld + (int64_t)t : (int64_t)t * la.ld + (int64_t)i;
                    int64_t ib = w.transB ? (int64_t)t * lb.ld + (int64_t)j : (int64_t)j * lb.ld + (int64_t)t;
                    s = fmaf(get(a, la.type, ia), get(b, lb.type, ib), s);
                }
                int64_t at = (int64_t)j * ld.ld + (int64_t)i;
                s *= scale;
                if (keep != 0) s += keep * get(c, ld.type, at);
                if (w.epilogue == 4) s += get(w.bias, w.biasType, (int64_t)i);
                put(d, ld.type, at, s);
            }
        return 0;
    });
}

// shoalEmuPlans writes how many layouts were made: a plan that is kept makes none.
extern "C" __attribute__((visibility("default"))) size_t shoalEmuPlans(char *out, size_t bytes) {
    std::string text = std::to_string(plans.load());
    if (bytes) memcpy(out, text.data(), bytes < text.size() ? bytes : text.size());
    return text.size();
}
