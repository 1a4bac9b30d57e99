// The language-model head between its products: rows of logits become the numbers that are asked for, and then their
// gradients.
#include "shoal.cuh"

struct HeadArgs {
    float *z; // (rows, vocab) logits
    const int *target, *gate;
    long long targetLd;
    Mat logp, lse, entropy, coef; // (n, 1), or null
    int *best;
    long long bestLd;
    int first, vocab; // token of row 0
    float cap, scale;
    int given, pad; // the lse is given, not computed
};

KERNEL(headRow, 256, HeadArgs) {
    SHARED(float, room, 32);
    SHARED(int, places, 32);
    if (*a.gate) return;
    float *z = a.z + (long long)blockIdx.x * a.vocab;
    long long token = a.first + blockIdx.x;
    int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int target = a.target[token * a.targetLd];
    float top = __int_as_float(0xff800000);
    int at = 0x7fffffff;
    for (int j = threadIdx.x; j < a.vocab; j += blockDim.x) {
        float v = z[j] * a.scale;
        if (a.cap > 0.f) v = a.cap * tanhf(v / a.cap);
        z[j] = v;
        if (v > top) top = v, at = j;
    }
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
    if (threadIdx.x == 0 && a.best) a.best[token * a.bestLd] = at == 0x7fffffff ? 0 : at;

    float lse, f = 1.f; // f: probabilities are e·f
    if (a.given) {
        lse = get(a.lse, token * a.lse.ld);
        top = lse;
    } else {
        float s = 0, ez = 0;
        for (int j = threadIdx.x; j < a.vocab; j += blockDim.x) {
            float e = expf(z[j] - top);
            s += e;
            ez = fmaf(e, z[j], ez);
        }
        s = blockSum(s, room);
        lse = top + logf(s);
        f = 1.f / s;
        if (a.entropy.p) {
            ez = blockSum(ez, room);
            if (threadIdx.x == 0) put(a.entropy, token * a.entropy.ld, lse - ez * f);
        }
        if (threadIdx.x == 0 && a.lse.p) put(a.lse, token * a.lse.ld, lse);
    }
    if (threadIdx.x == 0 && a.logp.p) put(a.logp, token * a.logp.ld, target < 0 ? 0.f : z[target] - lse);
    if (!a.coef.p) return;
    // d(loss)/d(raw logit) = coef·(1[target] - p), times the slopes of softcap and scale
    float coef = get(a.coef, token * a.coef.ld);
    __syncthreads(); // the target's logit was read
    for (int j = threadIdx.x; j < a.vocab; j += blockDim.x) {
        float g = 0.f, v = z[j];
        if (target >= 0 && coef != 0.f) {
            g = -coef * f * expf(v - top);
            if (j == target) g += coef;
            if (a.cap > 0.f) {
                float y = v / a.cap;
                g *= 1.f - y * y;
            }
            g *= a.scale;
        }
        z[j] = g;
    }
}
