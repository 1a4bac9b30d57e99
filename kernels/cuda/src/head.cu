// The language-model head between its products: rows of logits become the numbers that are asked for, and then their
// gradients. Logits are read once for each of the two.
#include "shoal.cuh"

struct HeadArgs {
    float *z; // (rows, vocab) logits, rows 256 bytes aligned
    const int *target, *gate;
    long long ld, targetLd;
    Mat logp, lse, entropy, coef; // (n, 1), or null
    int *best;
    long long bestLd;
    int first, vocab; // token of row 0
    float cap, scale;
    int given; // the lse is given, not computed
    int half;  // gradients are stored as bfloat16, a row's in the first half of its place
};

// Four is a thread's run of logits, four columns.
struct Four {
    float v[4];
};

// logits reads columns [j, j+4) of a row, scaled and capped; behind the vocabulary they are -Inf.
__device__ __forceinline__ Four logits(const HeadArgs &a, const float *z, int j) {
    Four f;
    if (j + 4 <= a.vocab) {
        float4 q = load16<float4>(z + j);
        f.v[0] = q.x, f.v[1] = q.y, f.v[2] = q.z, f.v[3] = q.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) f.v[i] = j + i < a.vocab ? z[j + i] : __int_as_float(0xff800000);
    }
    if (a.scale != 1.f || a.cap > 0.f)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (j + i < a.vocab) {
                f.v[i] *= a.scale;
                if (a.cap > 0.f) f.v[i] = a.cap * tanhf(f.v[i] / a.cap);
            }
    return f;
}

// Sums of a thread: of e^(z-top), and of the same times z.
struct Sums {
    float top, s, ez;
    int at; // of top
};

__device__ __forceinline__ Sums sumsOf(const HeadArgs &a, const float *z) {
    Sums t{__int_as_float(0xff800000), 0.f, 0.f, 0x7fffffff};
    for (int j = 4 * threadIdx.x; j < a.vocab; j += 4 * blockDim.x) {
        Four f = logits(a, z, j);
        float was = t.top;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (f.v[i] > t.top) t.top = f.v[i], t.at = j + i;
        if (t.top > was) {
            float keep = expf(was - t.top);
            t.s *= keep, t.ez *= keep;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (j + i < a.vocab) {
                float e = expf(f.v[i] - t.top);
                t.s += e;
                t.ez = fmaf(e, f.v[i], t.ez);
            }
    }
    return t;
}

// topOf is the first place of the largest logit of the block's row.
__device__ __forceinline__ void topOf(float &top, int &at, float *room, int *places) {
    int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int x = 16; x > 0; x >>= 1) {
        float v = __shfl_xor_sync(0xffffffffu, top, x);
        int c = __shfl_xor_sync(0xffffffffu, at, x);
        if (v > top || (v == top && c < at)) top = v, at = c;
    }
    if (lane == 0) room[warp] = top, places[warp] = at;
    __syncthreads();
    top = room[0], at = places[0];
    for (int w = 1; w < warps; w++)
        if (room[w] > top || (room[w] == top && places[w] < at)) top = room[w], at = places[w];
    __syncthreads();
}

// putGradients stores four columns of a row, all of which the block has read.
__device__ __forceinline__ void putGradients(const HeadArgs &a, float *z, int j, const Four &g) {
    if (a.half) {
        unsigned short *to = (unsigned short *)z + j;
        if (j + 4 <= a.vocab) {
            *(uint2 *)to = uint2{pack<false>(g.v[0], g.v[1]), pack<false>(g.v[2], g.v[3])};
            return;
        }
        for (int i = 0; i < 4; i++)
            if (j + i < a.vocab) to[i] = toBF16(g.v[i]);
        return;
    }
    if (j + 4 <= a.vocab) {
        store16(z + j, make_float4(g.v[0], g.v[1], g.v[2], g.v[3]));
        return;
    }
    for (int i = 0; i < 4; i++)
        if (j + i < a.vocab) z[j + i] = g.v[i];
}

// gradients: d(loss)/d(raw logit) = coef·(1[target] - p), times the slopes of softcap and scale; p is f·e^(z-top).
__device__ __forceinline__ void gradients(const HeadArgs &a, float *z, int target, float coef, float top, float f) {
    for (int lo = 0; lo < a.vocab; lo += 4 * blockDim.x) {
        int j = lo + 4 * threadIdx.x;
        Four v;
        if (j < a.vocab) v = logits(a, z, j);
        if (a.half) __syncthreads(); // what is written lies where others read
        if (j >= a.vocab) continue;
        Four g;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            g.v[i] = 0.f;
            if (target < 0 || coef == 0.f) continue;
            g.v[i] = -coef * f * expf(v.v[i] - top);
            if (j + i == target) g.v[i] += coef;
            if (a.cap > 0.f) {
                float y = v.v[i] / a.cap;
                g.v[i] *= 1.f - y * y;
            }
            g.v[i] *= a.scale;
        }
        putGradients(a, z, j, g);
    }
}

KERNEL(headRow, 256, HeadArgs) {
    SHARED(float, room, 32);
    SHARED(int, places, 32);
    if (*a.gate) return;
    float *z = a.z + (long long)blockIdx.x * a.ld;
    long long token = a.first + blockIdx.x;
    int target = a.target[token * a.targetLd];
    float top = 0.f, f = 1.f, lse = 0.f;
    if (a.given) top = lse = get(a.lse, token * a.lse.ld);
    if (!a.given || a.best) {
        Sums t = sumsOf(a, z);
        float own = t.top;
        int at = t.at;
        topOf(t.top, at, room, places);
        if (threadIdx.x == 0 && a.best) a.best[token * a.bestLd] = at == 0x7fffffff ? 0 : at;
        if (!a.given) {
            float keep = 4 * (int)threadIdx.x < a.vocab ? expf(own - t.top) : 0.f;
            float s = blockSum(t.s * keep, room);
            top = t.top;
            lse = top + logf(s);
            f = 1.f / s;
            if (a.entropy.p) {
                float ez = blockSum(t.ez * keep, room);
                if (threadIdx.x == 0) put(a.entropy, token * a.entropy.ld, lse - ez * f);
            }
            if (threadIdx.x == 0 && a.lse.p) put(a.lse, token * a.lse.ld, lse);
        }
    }
    if (threadIdx.x == 0 && a.logp.p) put(a.logp, token * a.logp.ld, target < 0 ? 0.f : logits(a, z, target / 4 * 4).v[target % 4] - lse);
    if (!a.coef.p) return;
    __syncthreads(); // the target's logit was read
    gradients(a, z, target, get(a.coef, token * a.coef.ld), top, f);
}
