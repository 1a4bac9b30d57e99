// The steps of optimizers, exact operations: every product, sum, quotient and root is rounded once, in the order of the
// comments of Stream's methods.
#include "shoal.cuh"

struct UpdateArgs {
    Mat w, g, m, v; // as the method has them; m and v may be left out
    const float *h; // hyper
    int flat, pad;
};

template <class F> __device__ __forceinline__ void update(const UpdateArgs &a, F f) {
    Runs r = runOf(a.w.rows, a.w.cols, a.flat);
    if (r.n == 0) return;
    Eight w = get8(a.w, place(a.w, r), r.n), g = get8(a.g, place(a.g, r), r.n), m, v;
    if (a.m.p) m = get8(a.m, place(a.m, r), r.n);
    if (a.v.p) v = get8(a.v, place(a.v, r), r.n);
#pragma unroll
    for (int i = 0; i < 8; i++) f(w.v[i], g.v[i], m.v[i], v.v[i]);
    put8(a.w, place(a.w, r), r.n, w);
    if (a.m.p) put8(a.m, place(a.m, r), r.n, m);
    if (a.v.p) put8(a.v, place(a.v, r), r.n, v);
}

__device__ __forceinline__ void adamStep(const float *h, float &w, float g, float &m, float &v) {
    float x = g * h[0];
    m = h[2] * m + h[3] * x;
    v = h[4] * v + h[5] * (x * x);
    w = w * h[1] - h[8] * (m / (sqrtf(v) / h[6] + h[7]));
}

KERNEL(adamW, 256, UpdateArgs) {
    float h[9];
    for (int i = 0; i < 9; i++) h[i] = a.h[i];
    update(a, [&h](float &w, float g, float &m, float &v) { adamStep(h, w, g, m, v); });
}

KERNEL(lion, 256, UpdateArgs) {
    float h[7];
    for (int i = 0; i < 7; i++) h[i] = a.h[i];
    update(a, [&h](float &w, float g, float &m, float &) {
        float x = g * h[0], c = h[2] * m + h[3] * x;
        m = h[4] * m + h[5] * x;
        w = w * h[1] - (c > 0.f ? h[6] : c < 0.f ? -h[6] : 0.f);
    });
}

KERNEL(sgd, 256, UpdateArgs) {
    float clip = a.h[0], wd = a.h[1], lr = a.h[2];
    update(a, [=](float &w, float g, float &, float &) { w = w - lr * (g * clip + w * wd); });
}

KERNEL(momentum, 256, UpdateArgs) {
    float h[6];
    for (int i = 0; i < 6; i++) h[i] = a.h[i];
    update(a, [&h](float &w, float g, float &m, float &) {
        float x = g * h[0] + w * h[1];
        m = h[3] * m + x;
        w = w - h[2] * (h[4] * x + h[5] * m);
    });
}

KERNEL(sophia, 256, UpdateArgs) {
    float h[7];
    for (int i = 0; i < 7; i++) h[i] = a.h[i];
    update(a, [&h](float &w, float g, float &m, float &c) {
        m = h[2] * m + h[3] * (g * h[0]);
        float t = fabsf(m) / (h[5] * c + h[6]);
        t = t < 1.f ? t : 1.f; // 1 for NaN too
        w = w * h[1] - copysignf(h[4] * t, m);
    });
}

// w is v here: v = h0·v + h1·(g·g).
KERNEL(averageSquares, 256, UpdateArgs) {
    float keep = a.h[0], rest = a.h[1];
    update(a, [=](float &w, float g, float &, float &) { w = keep * w + rest * (g * g); });
}

// Adafactor in five kernels over scratch memory: factors of rows and columns, the direction's square, the rate, the step.
struct FactorArgs {
    Mat w, g, r, c; // c may be left out: r has moments of elements
    const float *h;
    float *row, *col; // 1/√ of the relative mean of a row, of the mean of a column
    double *squares;  // Σ u² of a row
    float *rate;
};

__device__ __forceinline__ float squared(const FactorArgs &a, float g) {
    float x = g * a.h[0];
    return x * x + a.h[4];
}

// foldLanes adds 16 lanes in halves; lane 0 of the warp has the sum.
template <class T> __device__ __forceinline__ T foldLanes(T s) {
#pragma unroll
    for (int by = 8; by > 0; by >>= 1) s += __shfl_down_sync(0xffffffffu, s, by);
    return s;
}

KERNEL(factorRows, 32, FactorArgs) {
    long long row = blockIdx.x;
    float s = 0;
    if (threadIdx.x < 16)
        for (int c = threadIdx.x; c < a.g.cols; c += 16) s += squared(a, get(a.g, row * a.g.ld + c));
    s = foldLanes(s);
    if (threadIdx.x == 0) {
        float r = a.h[2] * get(a.r, row) + a.h[3] * (s / (float)a.g.cols);
        put(a.r, row, r);
    }
}

KERNEL(factorColumns, 128, FactorArgs) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= a.g.cols) return;
    float s = 0;
    for (long long i = 0; i < a.g.rows; i++) s += squared(a, get(a.g, i * a.g.ld + c));
    float v = a.h[2] * get(a.c, c) + a.h[3] * (s / (float)a.g.rows);
    put(a.c, c, v);
    a.col[c] = (float)(1. / sqrt((double)v));
}

KERNEL(factorMean, 256, FactorArgs) {
    SHARED(double, mean, 1);
    if (threadIdx.x == 0) {
        double s = 0;
        for (int i = 0; i < a.g.rows; i++) s += (double)get(a.r, i);
        *mean = s / (double)a.g.rows;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < a.g.rows; i += blockDim.x) a.row[i] = (float)(1. / sqrt((double)get(a.r, i) / *mean));
}

__device__ __forceinline__ float direction(const FactorArgs &a, long long i, int c) {
    float u = get(a.g, i * a.g.ld + c) * a.h[0];
    if (a.c.p) return u * a.row[i] * a.col[c];
    return u * (float)(1. / sqrt((double)get(a.r, i * a.r.ld + c)));
}

// factorSquares also updates moments of single elements, which nobody else does.
KERNEL(factorSquares, 32, FactorArgs) {
    long long row = blockIdx.x;
    double s = 0;
    if (threadIdx.x < 16)
        for (int c = threadIdx.x; c < a.g.cols; c += 16) {
            if (!a.c.p) {
                long long k = row * a.r.ld + c;
                put(a.r, k, a.h[2] * get(a.r, k) + a.h[3] * squared(a, get(a.g, row * a.g.ld + c)));
            }
            double u = direction(a, row, c);
            s += u * u;
        }
    s = foldLanes(s);
    if (threadIdx.x == 0) a.squares[row] = s;
}

KERNEL(factorRate, 32, FactorArgs) {
    if (threadIdx.x) return;
    double s = 0;
    for (int i = 0; i < a.g.rows; i++) s += a.squares[i];
    double rms = sqrt(s / ((double)a.g.rows * (double)a.g.cols)) / (double)a.h[5];
    a.rate[0] = (float)(-(double)a.h[6] / (rms > 1. ? rms : rms == rms ? 1. : rms));
}

KERNEL(factorStep, 256, FactorArgs) {
    Runs r = runOf(a.w.rows, a.w.cols, 0);
    for (int i = 0; i < r.n; i++) {
        long long k = r.row * a.w.ld + r.k + i;
        put(a.w, k, get(a.w, k) * a.h[1] + a.rate[0] * direction(a, r.row, (int)r.k + i));
    }
}

// The dynamic 8 bit form of kernels/dtype. A block of threads has a block of elements.
struct CodeArgs {
    unsigned char *code[2];
    float *scale[2];
    float *x, *g; // x is w in adamW8
    const float *h;
    const float *values[2]; // what codes stand for: with signs, without
    const float *upper[2];  // up to where the code that many above 0 reaches
    int n, isSigned;
};

#define CODE_BLOCK 256

__device__ __forceinline__ float decoded(const float *values, unsigned char code, float scale) { return values[code] * scale + 0.f; }

// rank is how many codes lie below that of |y|.
__device__ __forceinline__ int rank(const float *upper, float y) {
    y = fabsf(y);
    y = y < 1.f ? y : 1.f;
    int lo = 0, hi = 255; // the smallest k with y <= upper[k]
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (y <= upper[mid])
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

__device__ __forceinline__ unsigned char coded(const float *upper, float y, bool isSigned) {
    int k = rank(upper, y);
    if (!isSigned) return (unsigned char)k;
    if (__float_as_uint(y) >> 31) return (unsigned char)(127 - min(k, 127));
    return (unsigned char)(127 + min(k, 128));
}

// blockMax is the largest of a block's values that are no NaN, at least 0.
__device__ __forceinline__ float blockMax(float v, float *room) {
    v = warpMax(v > 0.f ? v : 0.f);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int i = 0; i < (int)blockDim.x / 32; i++) v = fmaxf(v, room[i]);
    __syncthreads();
    return v;
}

// encode stores a block's values; all threads come, those beyond the end with 0.
__device__ __forceinline__ void encode(unsigned char *code, float *scale, float v, bool mine, const float *upper, bool isSigned, float *room) {
    float s = blockMax(fabsf(v), room);
    if (isSigned && s > 0.f && blockMax(v, room) != s) s = -s; // the code of 1 is for the largest number
    if (threadIdx.x == 0) *scale = s;
    if (mine) *code = s == 0.f ? 0 : coded(upper, v / s, isSigned);
}

KERNEL(encode8, CODE_BLOCK, CodeArgs) {
    SHARED(float, room, 32);
    int i = blockIdx.x * CODE_BLOCK + threadIdx.x;
    bool mine = i < a.n;
    float v = mine ? a.x[i] : 0.f;
    int s = a.isSigned ? 0 : 1;
    encode(a.code[0] + i, a.scale[0] + blockIdx.x, v, mine, a.upper[s], a.isSigned, room);
}

KERNEL(decode8, CODE_BLOCK, CodeArgs) {
    int i = blockIdx.x * CODE_BLOCK + threadIdx.x;
    if (i < a.n) a.x[i] = decoded(a.values[a.isSigned ? 0 : 1], a.code[0][i], a.scale[0][blockIdx.x]);
}

KERNEL(adamW8, CODE_BLOCK, CodeArgs) {
    SHARED(float, room, 32);
    int i = blockIdx.x * CODE_BLOCK + threadIdx.x;
    bool mine = i < a.n;
    float w = 0, m = 0, v = 0;
    if (mine) {
        w = a.x[i];
        m = decoded(a.values[0], a.code[0][i], a.scale[0][blockIdx.x]);
        v = decoded(a.values[1], a.code[1][i], a.scale[1][blockIdx.x]);
        float h[9];
        for (int k = 0; k < 9; k++) h[k] = a.h[k];
        adamStep(h, w, a.g[i], m, v);
        a.x[i] = w;
    }
    // all threads have read the scales before encode writes one: its first barrier lies between
    encode(a.code[0] + i, a.scale[0] + blockIdx.x, m, mine, a.upper[0], true, room);
    encode(a.code[1] + i, a.scale[1] + blockIdx.x, v, mine, a.upper[1], false, room);
}
