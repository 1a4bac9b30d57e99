// Element-wise operations: each thread has a run of eight elements.
#include "shoal.cuh"

// MapArgs are operands in the order of the command, outputs first.
struct MapArgs {
    Mat x[5];
    float f;
    int flat, add, pad;
};

// map writes f(inputs) to outs outputs, or adds it to them.
template <int outs, int ins, class F> __device__ __forceinline__ void map(const MapArgs &a, F f) {
    Runs r = runOf(a.x[0].rows, a.x[0].cols, a.flat);
    if (r.n == 0) return;
    Eight x[ins], y[outs], old[outs];
#pragma unroll
    for (int i = 0; i < ins; i++) x[i] = get8(a.x[outs + i], place(a.x[outs + i], r), r.n);
    if (a.add) {
#pragma unroll
        for (int i = 0; i < outs; i++) old[i] = get8(a.x[i], place(a.x[i], r), r.n);
    }
#pragma unroll
    for (int e = 0; e < 8; e++) {
        float in[ins], out[outs];
#pragma unroll
        for (int i = 0; i < ins; i++) in[i] = x[i].v[e];
        f(in, out);
#pragma unroll
        for (int i = 0; i < outs; i++) y[i].v[e] = a.add ? old[i].v[e] + out[i] : out[i];
    }
#pragma unroll
    for (int i = 0; i < outs; i++) put8(a.x[i], place(a.x[i], r), r.n, y[i]);
}

KERNEL(add, 256, MapArgs) {
    map<1, 2>(a, [](const float *x, float *y) { y[0] = x[0] + x[1]; });
}

KERNEL(weightedSum, 256, MapArgs) {
    float f = a.f;
    map<1, 1>(a, [f](const float *x, float *y) { y[0] = f * x[0]; });
}

KERNEL(quotient, 256, MapArgs) {
    float f = a.f;
    map<1, 1>(a, [f](const float *x, float *y) { y[0] = x[0] / f; });
}

KERNEL(overRoot, 256, MapArgs) {
    map<1, 2>(a, [](const float *x, float *y) { y[0] = x[0] == 0.f ? 0.f : x[0] / sqrtf(x[1]); });
}

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

KERNEL(swiglu, 256, MapArgs) {
    map<1, 2>(a, [](const float *x, float *y) { y[0] = x[0] / (1.f + expf(-x[0])) * x[1]; });
}

// With s = σ(g): d(gate) = dy·u·(s + g·s·(1-s)), d(up) = dy·g·s.
KERNEL(swigluBack, 256, MapArgs) {
    map<2, 3>(a, [](const float *x, float *y) {
        float s = sigmoid(x[1]), gs = x[1] * s;
        y[0] = x[0] * x[2] * fmaf(gs, 1.f - s, s);
        y[1] = x[0] * gs;
    });
}

// gelu is x·σ(2u) with u = √(2/π)(x + 0.044715x³).
#define GELU_A 1.5957691216057308f
#define GELU_B 0.07135481282553547f

KERNEL(gelu, 256, MapArgs) {
    map<1, 1>(a, [](const float *x, float *y) { y[0] = x[0] * sigmoid(x[0] * fmaf(x[0] * x[0], GELU_B, GELU_A)); });
}

KERNEL(geluBack, 256, MapArgs) {
    map<1, 2>(a, [](const float *x, float *y) {
        float v = x[1], s = sigmoid(v * fmaf(v * v, GELU_B, GELU_A)), t = v * fmaf(v * v, 3 * GELU_B, GELU_A);
        y[0] = x[0] * fmaf(t, s * (1.f - s), s);
    });
}

KERNEL(relu, 256, MapArgs) {
    map<1, 1>(a, [](const float *x, float *y) { y[0] = x[0] < 0.f ? 0.f : x[0]; }); // a NaN stays
}

KERNEL(reluBack, 256, MapArgs) {
    map<1, 2>(a, [](const float *x, float *y) { y[0] = x[1] > 0.f ? x[0] : 0.f; });
}

// In double precision: float32's tanh of a GPU is off by more than a rounding.
KERNEL(tanhOf, 256, MapArgs) {
    map<1, 1>(a, [](const float *x, float *y) { y[0] = (float)tanh((double)x[0]); });
}

KERNEL(tanhBack, 256, MapArgs) {
    map<1, 2>(a, [](const float *x, float *y) { y[0] = x[0] * (1.f - x[1] * x[1]); });
}

struct MulArgs {
    Mat dst, a, b;
    int flat, add, perColumn, pad; // perColumn: b is one row, used for all
};

KERNEL(mul, 256, MulArgs) {
    Runs r = runOf(a.dst.rows, a.dst.cols, a.flat);
    if (r.n == 0) return;
    Eight x = get8(a.a, place(a.a, r), r.n), y = get8(a.b, a.perColumn ? r.k : place(a.b, r), r.n), d;
    if (a.add) d = get8(a.dst, place(a.dst, r), r.n);
#pragma unroll
    for (int i = 0; i < 8; i++) x.v[i] = a.add ? fmaf(x.v[i], y.v[i], d.v[i]) : x.v[i] * y.v[i];
    put8(a.dst, place(a.dst, r), r.n, x);
}

KERNEL(scale, 256, MapArgs) {
    Runs r = runOf(a.x[0].rows, a.x[0].cols, a.flat);
    if (r.n == 0) return;
    Eight x = get8(a.x[1], place(a.x[1], r), r.n), d;
    if (a.add) d = get8(a.x[0], place(a.x[0], r), r.n);
#pragma unroll
    for (int i = 0; i < 8; i++) x.v[i] = a.add ? fmaf(a.f, x.v[i], d.v[i]) : a.f * x.v[i];
    put8(a.x[0], place(a.x[0], r), r.n, x);
}

// read and write are elements of any plain type, which float64 has exactly.
__device__ __forceinline__ double read(const Mat &m, long long k) {
    switch (m.type) {
    case F16: return fromF16(((const unsigned short *)m.p)[k]);
    case I32: return ((const int *)m.p)[k];
    case F64: return ((const double *)m.p)[k];
    }
    return get(m, k);
}

__device__ __forceinline__ void write(const Mat &m, long long k, double v) {
    switch (m.type) {
    case F16: ((unsigned short *)m.p)[k] = toF16((float)v); break;
    case I32: ((int *)m.p)[k] = v >= 2147483647. ? 2147483647 : v <= -2147483648. ? -2147483647 - 1 : (int)v; break;
    case F64: ((double *)m.p)[k] = v; break;
    default: put(m, k, (float)v);
    }
}

__device__ __forceinline__ bool narrow(const Mat &m) { return m.type == F32 || m.type == BF16; }

KERNEL(copy, 256, MapArgs) {
    Runs r = runOf(a.x[0].rows, a.x[0].cols, a.flat);
    if (r.n == 0) return;
    long long to = place(a.x[0], r), from = place(a.x[1], r);
    if (narrow(a.x[0]) && narrow(a.x[1])) {
        put8(a.x[0], to, r.n, get8(a.x[1], from, r.n));
        return;
    }
    for (int i = 0; i < r.n; i++) write(a.x[0], to + i, read(a.x[1], from + i));
}

KERNEL(fill, 256, MapArgs) {
    Runs r = runOf(a.x[0].rows, a.x[0].cols, a.flat);
    if (r.n == 0) return;
    long long to = place(a.x[0], r);
    if (!narrow(a.x[0])) {
        for (int i = 0; i < r.n; i++) write(a.x[0], to + i, a.f);
        return;
    }
    Eight e;
#pragma unroll
    for (int i = 0; i < 8; i++) e.v[i] = a.f;
    put8(a.x[0], to, r.n, e);
}

struct DropArgs {
    Mat y, x;
    const int *step, *key; // key (rows, 2)
    long long keyLd;
    unsigned long long seed;
    unsigned site, limit; // what is below limit of 2²⁴ is dropped
    float keep;           // 1/(1-rate)
    int add;
};

// mix is the finalizer of splitmix64 (Steele et al. 2014).
__device__ __forceinline__ unsigned long long mix(unsigned long long z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

KERNEL(drop, 256, DropArgs) {
    Runs r = runOf(a.x.rows, a.x.cols, 0);
    if (r.n == 0) return;
    const int *key = a.key + r.row * a.keyLd;
    unsigned long long who = (unsigned long long)(unsigned)key[0] << 32 | (unsigned)key[1];
    unsigned long long h = mix(mix(mix(a.seed + (unsigned)*a.step) ^ who) ^ a.site);
    Eight x = get8(a.x, place(a.x, r), r.n), d;
    if (a.add) d = get8(a.y, place(a.y, r), r.n);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        bool kept = (mix(h + (unsigned long long)(r.k + i) * 0x9e3779b97f4a7c15ull) >> 40) >= a.limit;
        float v = kept ? x.v[i] * a.keep : 0.f;
        x.v[i] = a.add ? v + d.v[i] : v;
    }
    put8(a.y, place(a.y, r), r.n, x);
}

struct RopeArgs {
    Mat y, x;
    const int *pos;
    long long posLd;
    const float *freq;
    int heads, half, inverse, add;
    float scale;
    int pad;
};

// A thread turns the pair k of all heads of a row. Angles are in double precision: those of far positions are off by more
// than a model can bear in float32.
KERNEL(rope, 256, RopeArgs) {
    long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long row = t / a.half;
    int k = (int)(t - row * a.half);
    if (row >= a.x.rows) return;
    double s, c;
    sincos((double)a.pos[row * a.posLd] * (double)a.freq[k], &s, &c);
    float cs = (float)(c * (double)a.scale), sn = (float)(s * (double)a.scale);
    if (a.inverse) sn = -sn;
    for (int h = 0; h < a.heads; h++) {
        long long lo = (long long)h * 2 * a.half + k, hi = lo + a.half;
        float p = get(a.x, row * a.x.ld + lo), q = get(a.x, row * a.x.ld + hi);
        float u = p * cs - q * sn, v = q * cs + p * sn;
        if (a.add) u += get(a.y, row * a.y.ld + lo), v += get(a.y, row * a.y.ld + hi);
        put(a.y, row * a.y.ld + lo, u);
        put(a.y, row * a.y.ld + hi, v);
    }
}
