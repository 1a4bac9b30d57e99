// Norms of rows: a block has a row.
#include "shoal.cuh"

struct NormArgs {
    Mat y, x;    // y is dx in the backward kernels
    Mat stat;    // (rows, 1) of 1/root, or (rows, 2) of mean and 1/root
    Mat w, b;    // (1, cols); b may be left out
    Mat dy;      // in the kernels that add, the first term; x is then the sum
    Mat other;   // and the second
    float eps, offset;
    int add, pad;
};

#define EACH_RUN(cols) for (int k = threadIdx.x * 8, n; k < (cols) && ((n = (cols)-k < 8 ? (cols)-k : 8), true); k += blockDim.x * 8)

// plus stores a run of the sum, and returns it as it was stored.
__device__ __forceinline__ Eight plus(const NormArgs &a, long long row, int k, int n) {
    Eight x = get8(a.dy, row * a.dy.ld + k, n), y = get8(a.other, row * a.other.ld + k, n);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.v[i] += y.v[i];
        if (a.x.type == BF16) x.v[i] = fromBF16(toBF16(x.v[i]));
    }
    put8(a.x, row * a.x.ld + k, n, x);
    return x;
}

// rmsNormRow and layerNormRow normalise a block's row; with add it is a sum that is made first. A thread reads again what
// it wrote itself.
template <bool add> __device__ __forceinline__ void rmsNormRow(const NormArgs &a, float *room) {
    long long row = blockIdx.x;
    int cols = a.x.cols;
    float s = 0;
    EACH_RUN(cols) {
        Eight x = add ? plus(a, row, k, n) : get8(a.x, row * a.x.ld + k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) s = fmaf(x.v[i], x.v[i], s);
    }
    float r = 1.f / sqrtf(blockSum(s, room) / cols + a.eps);
    if (threadIdx.x == 0) put(a.stat, row * a.stat.ld, r);
    EACH_RUN(cols) {
        Eight x = get8(a.x, row * a.x.ld + k, n), w = get8(a.w, k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) x.v[i] = x.v[i] * r * (w.v[i] + a.offset);
        put8(a.y, row * a.y.ld + k, n, x);
    }
}

KERNEL(rmsNorm, 256, NormArgs) {
    SHARED(float, room, 32);
    rmsNormRow<false>(a, room);
}

KERNEL(addRMSNorm, 256, NormArgs) {
    SHARED(float, room, 32);
    rmsNormRow<true>(a, room);
}

// With t = dy·(offset+w): dx = r·t - x·(r³/C·Σ t·x).
KERNEL(rmsNormBack, 256, NormArgs) {
    SHARED(float, room, 32);
    long long row = blockIdx.x;
    int cols = a.x.cols;
    float s = 0, r = get(a.stat, row * a.stat.ld);
    EACH_RUN(cols) {
        Eight x = get8(a.x, row * a.x.ld + k, n), d = get8(a.dy, row * a.dy.ld + k, n), w = get8(a.w, k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) s = i < n ? fmaf(d.v[i] * (w.v[i] + a.offset), x.v[i], s) : s;
    }
    float f = r * r * r * blockSum(s, room) / cols;
    EACH_RUN(cols) {
        Eight x = get8(a.x, row * a.x.ld + k, n), d = get8(a.dy, row * a.dy.ld + k, n), w = get8(a.w, k, n), o;
        if (a.add) o = get8(a.y, row * a.y.ld + k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float v = fmaf(-f, x.v[i], r * (d.v[i] * (w.v[i] + a.offset)));
            x.v[i] = a.add ? o.v[i] + v : v;
        }
        put8(a.y, row * a.y.ld + k, n, x);
    }
}

template <bool add> __device__ __forceinline__ void layerNormRow(const NormArgs &a, float *room) {
    long long row = blockIdx.x;
    int cols = a.x.cols;
    float s = 0, q = 0;
    EACH_RUN(cols) {
        Eight x = add ? plus(a, row, k, n) : get8(a.x, row * a.x.ld + k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) s += x.v[i];
    }
    float mean = blockSum(s, room) / cols;
    EACH_RUN(cols) {
        Eight x = get8(a.x, row * a.x.ld + k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float c = i < n ? x.v[i] - mean : 0.f;
            q = fmaf(c, c, q);
        }
    }
    float r = 1.f / sqrtf(blockSum(q, room) / cols + a.eps);
    if (threadIdx.x == 0) {
        put(a.stat, row * a.stat.ld, mean);
        put(a.stat, row * a.stat.ld + 1, r);
    }
    EACH_RUN(cols) {
        Eight x = get8(a.x, row * a.x.ld + k, n), w = get8(a.w, k, n), b = {};
#pragma unroll
        for (int i = 0; i < 8; i++) x.v[i] = (x.v[i] - mean) * r;
        if (a.b.p) b = get8(a.b, k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) x.v[i] = fmaf(x.v[i], w.v[i], b.v[i]);
        put8(a.y, row * a.y.ld + k, n, x);
    }
}

KERNEL(layerNorm, 256, NormArgs) {
    SHARED(float, room, 32);
    layerNormRow<false>(a, room);
}

KERNEL(addLayerNorm, 256, NormArgs) {
    SHARED(float, room, 32);
    layerNormRow<true>(a, room);
}

// With t = dy·w and h = (x-mean)·r: dx = r·(t - mean(t) - h·mean(t·h)).
KERNEL_ROOMY(layerNormBack, 256, NormArgs) {
    SHARED(float, room, 32);
    long long row = blockIdx.x;
    int cols = a.x.cols;
    float mean = get(a.stat, row * a.stat.ld), r = get(a.stat, row * a.stat.ld + 1), s = 0, q = 0;
    EACH_RUN(cols) {
        Eight x = get8(a.x, row * a.x.ld + k, n), d = get8(a.dy, row * a.dy.ld + k, n), w = get8(a.w, k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float t = d.v[i] * w.v[i];
            s += t;
            q = i < n ? fmaf(t, (x.v[i] - mean) * r, q) : q;
        }
    }
    s = blockSum(s, room) / cols;
    q = blockSum(q, room) / cols;
    EACH_RUN(cols) {
        Eight d = get8(a.dy, row * a.dy.ld + k, n), w = get8(a.w, k, n), o;
#pragma unroll
        for (int i = 0; i < 8; i++) d.v[i] = d.v[i] * w.v[i] - s; // early, for fewer registers
        Eight x = get8(a.x, row * a.x.ld + k, n);
        if (a.add) o = get8(a.y, row * a.y.ld + k, n);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float h = (x.v[i] - mean) * r, v = fmaf(-q, h, d.v[i]) * r;
            x.v[i] = a.add ? o.v[i] + v : v;
        }
        put8(a.y, row * a.y.ld + k, n, x);
    }
}
