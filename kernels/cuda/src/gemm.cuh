// Operands of products: matrices of any storage, read as float32 or rounded to the type that they are multiplied in.
#pragma once
#include "shoal.cuh"

// Operand is a matrix as a product reads it. Quantized storage has one absmax for each block of elements, counted from
// element first of its memory; m.p is then the memory's start and base the place of element (0, 0).
struct Operand {
    Mat m;
    const float *absmax;
    long long base, first;
    int block, pad;
};

__device__ __forceinline__ float nf4Level(int code) {
    const float levels[16] = {-1.f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                              -0.18477343022823334f, -0.09105003625154495f, 0.f, 0.07958029955625534f, 0.16093020141124725f,
                              0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                              0.7229568362236023f, 1.f};
    return levels[code];
}

// quantized is element k of the operand's memory.
__device__ __forceinline__ float quantized(const Operand &o, long long k) {
    float scale = o.absmax[(k - o.first) / o.block];
    if (o.m.type == I8) return (float)((const signed char *)o.m.p)[k] * (scale / 127.f);
    unsigned char two = ((const unsigned char *)o.m.p)[k >> 1];
    return nf4Level(k & 1 ? two & 15 : two >> 4) * scale;
}

static __device__ NOINLINE Eight readQuantized(const Operand &o, long long k, int n) {
    Eight e;
    for (int t = 0; t < 8; t++) e.v[t] = t < n ? quantized(o, k + t) : 0.f;
    return e;
}

// read8 reads n <= 8 elements of row i from column j on; the rest of the run is 0.
__device__ __forceinline__ Eight read8(const Operand &o, long long i, int j, int n) {
    long long k = i * o.m.ld + j;
    if (o.m.type == I8 || o.m.type == NF4) return readQuantized(o, o.base + k, n);
    return get8(o.m, k, n);
}

// rounded is v as a type of products has it.
__device__ __forceinline__ float rounded(float v, int type) {
    if (type == BF16) return fromBF16(toBF16(v));
    if (type == F16) return fromF16(toF16(v));
    return v;
}

struct ProductArgs {
    Operand a, b;
    Mat c;
    const float *bias; // (1, n) or null
    int m, n, k;
    int ta, tb; // a is stored (k, m), b is stored (n, k)
    int add, compute, pad;
};

// start is what the sum of c (i, j) begins with.
__device__ __forceinline__ float start(const ProductArgs &p, int i, int j) {
    float s = p.bias ? p.bias[j] : 0.f;
    if (p.add) s = get(p.c, i * p.c.ld + j) + s;
    return s;
}
