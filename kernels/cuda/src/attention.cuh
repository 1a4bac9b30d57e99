// Attention over packed sequences: what its kernels have in common.
#pragma once
#include "gemm.cuh"

struct AttentionArgs {
    Mat o, lse, q, k, v; // o and lse are inputs in the backward kernels
    Mat dq, dk, dv, dO;
    Mat pk, pv, dpk, dpv;           // the prefix, or null
    const int *qstart, *kstart, *klen;
    long long qstartLd, kstartLd, klenLd;
    float *delta; // (n, heads) of Σ do·o
    const int *gate;
    int count, heads, kvHeads, dim;
    int window, compute, add, onPrefix; // onPrefix: the gradient of the prefix, not of k and v
    float scale, softcap;
};

// Sequence is one of the batch: its queries [q0, q0+queries), its keys [k0, k0+keys); query i sees keys up to ahead + i.
struct Sequence {
    int q0, queries, k0, keys, ahead;
};

__device__ __forceinline__ Sequence sequence(const AttentionArgs &a, int s) {
    Sequence x;
    x.q0 = a.qstart[s * a.qstartLd];
    x.queries = a.qstart[(s + 1) * a.qstartLd] - x.q0;
    x.k0 = a.kstart[s * a.kstartLd];
    x.keys = a.klen[s * a.klenLd];
    x.ahead = x.keys - x.queries;
    return x;
}

// tileOf finds a tile by its number: a run of queries [q0+lo, q0+lo+n) of a sequence. Each lane of a warp counts the tiles of
// one sequence, so that batches of many short ones are found in as quickly. All threads come.
template <int queries> __device__ __forceinline__ bool tileOf(const AttentionArgs &a, int tile, Sequence &x, int &lo, int &n) {
    int lane = threadIdx.x % 32;
    for (int first = 0; first < a.count; first += 32) {
        int s = first + lane, end = 0; // tiles of the sequences up to the lane's
        if (s < a.count) end = (a.qstart[(s + 1) * a.qstartLd] - a.qstart[s * a.qstartLd] + queries - 1) / queries;
#pragma unroll
        for (int by = 1; by < 32; by <<= 1) {
            int v = __shfl_up_sync(0xffffffffu, end, by);
            if (lane >= by) end += v;
        }
        int at = warpSum(end <= tile ? 1 : 0);
        if (at == 32) {
            tile -= __shfl_sync(0xffffffffu, end, 31);
            continue;
        }
        int before = __shfl_sync(0xffffffffu, end, at > 0 ? at - 1 : 0);
        x = sequence(a, first + at);
        lo = (tile - (at > 0 ? before : 0)) * queries;
        n = min(queries, x.queries - lo);
        return true;
    }
    return false;
}

// score is the scaled and capped product of a query and a key; slope becomes the cap's derivative there.
__device__ __forceinline__ float score(const AttentionArgs &a, float product, float &slope) {
    float s = product * a.scale;
    slope = 1.f;
    if (a.softcap > 0.f) {
        s = a.softcap * tanhf(s / a.softcap);
        float y = s / a.softcap;
        slope = 1.f - y * y;
    }
    return s;
}

#define NEG_INF __int_as_float(0xff800000)

// sees tells whether query i of a sequence sees key j of it; keys of a prefix are seen by all.
__device__ __forceinline__ bool sees(const AttentionArgs &a, int own, int j) { return j <= own && (a.window == 0 || j > own - a.window); }
