// Attention in the tensor cores, for products in bfloat16 or binary16 (Dao 2023, arXiv:2307.08691). A warp has 16 rows of
// a block's 64; scores, softmax and sums are float32 in registers, spread over the warp as mma has its results.
#include "attention.cuh"

#define BLOCK_ROWS 64
#define LOG2E 1.4426950408889634f

// halves reads rows [lo, lo+n) of a head, from column `first` on, into room[most][wide+8], rounded; the rest is 0.
template <bool half> static __device__ NOINLINE void halves(const Mat &m, long long lo, int n, int most, int first, int dim, int wide, unsigned short *room) {
    for (int t = threadIdx.x; t < most * (wide / 8); t += blockDim.x) {
        int r = t / (wide / 8), c = t % (wide / 8) * 8, some = r < n ? dim - c : 0;
        some = some < 0 ? 0 : some > 8 ? 8 : some;
        unsigned short *to = room + r * (wide + 8) + c;
        long long at = (lo + r) * m.ld + first + c;
        if (!half && m.type == BF16 && some == 8 && (((unsigned long long)m.p + 2 * (unsigned long long)at) & 15) == 0) {
            copy16(to, m.p + 2 * at);
            continue;
        }
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < some ? get(m, at + i) : 0.f;
        store16(to, make_uint4(pack<half>(v[0], v[1]), pack<half>(v[2], v[3]), pack<half>(v[4], v[5]), pack<half>(v[6], v[7])));
    }
}

// times sets s (16, cols) = a (16, wide) · bᵀ, with both stored by rows.
template <bool half, int wide, int cols> __device__ __forceinline__ void times(const unsigned short *a, const unsigned short *b, float (&s)[cols / 8][4]) {
    int lane = threadIdx.x % 32, r = lane % 8, i1 = lane / 8 % 2 * 8, i2 = lane / 16 * 8;
#pragma unroll
    for (int j = 0; j < cols / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[j][e] = 0;
#pragma unroll
    for (int k = 0; k < wide; k += 16) {
        unsigned fa[4];
        loadMatrix4<false>(fa, a + (i1 + r) * (wide + 8) + k + i2);
#pragma unroll
        for (int j = 0; j < cols / 16; j++) {
            unsigned f[4];
            loadMatrix4<false>(f, b + (16 * j + i2 + r) * (wide + 8) + k + i1);
            unsigned low[2] = {f[0], f[1]}, high[2] = {f[2], f[3]};
            mma<half>(s[2 * j], fa, low);
            mma<half>(s[2 * j + 1], fa, high);
        }
    }
}

// adds acc (16, wide) += p (16, cols) · b (cols, wide), with p in registers and rounded here.
template <bool half, int wide, int cols> __device__ __forceinline__ void adds(const float (&p)[cols / 8][4], const unsigned short *b, float (&acc)[wide / 8][4]) {
    int lane = threadIdx.x % 32, r = lane % 8, i1 = lane / 8 % 2 * 8, i2 = lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < cols / 16; k++) {
        unsigned fa[4] = {pack<half>(p[2 * k][0], p[2 * k][1]), pack<half>(p[2 * k][2], p[2 * k][3]), pack<half>(p[2 * k + 1][0], p[2 * k + 1][1]),
                          pack<half>(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int j = 0; j < wide / 16; j++) {
            unsigned f[4];
            loadMatrix4<true>(f, b + (16 * k + i1 + r) * (wide + 8) + 16 * j + i2);
            unsigned low[2] = {f[0], f[1]}, high[2] = {f[2], f[3]};
            mma<half>(acc[2 * j], fa, low);
            mma<half>(acc[2 * j + 1], fa, high);
        }
    }
}

// quadMax and quadSum are over the four lanes that share a row.
__device__ __forceinline__ float quadMax(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
__device__ __forceinline__ float quadSum(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

// store writes a warp's rows of acc, scaled, to columns from `first` on; row r of the warp is row lo + r of m.
template <int wide> __device__ __forceinline__ void store(const Mat &m, long long lo, int n, int first, int dim, const float (&acc)[wide / 8][4], const float (&f)[2], bool add) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < wide / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int r = lane / 4 + 8 * (e / 2), c = 8 * j + lane % 4 * 2 + e % 2;
            if (r >= n || c >= dim) continue;
            long long k = (lo + r) * m.ld + first + c;
            float v = acc[j][e] * f[e / 2];
            put(m, k, add ? get(m, k) + v : v);
        }
}

#define FORWARD_KEYS 64

template <bool half, int wide> __device__ __forceinline__ void attendTensor(const AttentionArgs &a, unsigned short *room) {
    if (*a.gate) return;
    Sequence x;
    int lo, n, h = blockIdx.y, kv = h / (a.heads / a.kvHeads);
    if (!tileOf<BLOCK_ROWS>(a, blockIdx.x, x, lo, n)) return;
    const int tile = FORWARD_KEYS * (wide + 8);
    unsigned short *rq = room, *rk = rq + BLOCK_ROWS * (wide + 8), *rv = rk + 2 * tile; // two stages of keys and values
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    long long first = x.q0 + lo;
    int prefix = a.pk.p ? a.pk.rows : 0;
    int from = a.window > 0 ? max(0, x.ahead + lo - a.window + 1) : 0, to = x.ahead + lo + n;
    int prefixTiles = (prefix + FORWARD_KEYS - 1) / FORWARD_KEYS, tiles = prefixTiles + (to - from + FORWARD_KEYS - 1) / FORWARD_KEYS;
    auto bring = [&](int t) {
        if (t < tiles) {
            bool on = t < prefixTiles;
            int j0 = on ? t * FORWARD_KEYS : from + (t - prefixTiles) * FORWARD_KEYS, keys = min(FORWARD_KEYS, (on ? prefix : to) - j0);
            halves<half>(on ? a.pk : a.k, on ? j0 : x.k0 + j0, keys, FORWARD_KEYS, kv * a.dim, a.dim, wide, rk + t % 2 * tile);
            halves<half>(on ? a.pv : a.v, on ? j0 : x.k0 + j0, keys, FORWARD_KEYS, kv * a.dim, a.dim, wide, rv + t % 2 * tile);
        }
        commitCopies();
    };
    halves<half>(a.q, first, n, BLOCK_ROWS, h * a.dim, a.dim, wide, rq);
    bring(0);
    float acc[wide / 8][4], top[2] = {NEG_INF, NEG_INF}, sum[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < wide / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) acc[j][e] = 0;
    for (int t = 0; t < tiles; t++) {
        bool on = t < prefixTiles;
        int j0 = on ? t * FORWARD_KEYS : from + (t - prefixTiles) * FORWARD_KEYS, keys = min(FORWARD_KEYS, (on ? prefix : to) - j0);
        bring(t + 1);
        waitCopies(1);
        __syncthreads();
        float s[FORWARD_KEYS / 8][4], most[2] = {top[0], top[1]};
        times<half, wide, FORWARD_KEYS>(rq + 16 * warp * (wide + 8), rk + t % 2 * tile, s);
#pragma unroll
        for (int j = 0; j < FORWARD_KEYS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int q = 16 * warp + lane / 4 + 8 * (e / 2), c = 8 * j + lane % 4 * 2 + e % 2;
                bool seen = c < keys && (on || sees(a, x.ahead + lo + q, j0 + c));
                float slope, v = score(a, s[j][e], slope);
                s[j][e] = seen ? v : NEG_INF;
                most[e / 2] = fmaxf(most[e / 2], s[j][e]);
            }
        float keep[2], part[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            most[i] = quadMax(most[i]);
            keep[i] = top[i] == NEG_INF ? 0.f : exp2f((top[i] - most[i]) * LOG2E);
            top[i] = most[i];
        }
#pragma unroll
        for (int j = 0; j < FORWARD_KEYS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float p = s[j][e] == NEG_INF ? 0.f : exp2f((s[j][e] - top[e / 2]) * LOG2E);
                s[j][e] = p;
                part[e / 2] += p;
            }
#pragma unroll
        for (int i = 0; i < 2; i++) sum[i] = sum[i] * keep[i] + quadSum(part[i]);
#pragma unroll
        for (int j = 0; j < wide / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[j][e] *= keep[e / 2];
        adds<half, wide, FORWARD_KEYS>(s, rv + t % 2 * tile, acc);
        __syncthreads(); // the stage may be filled again
    }
    float f[2] = {1.f / sum[0], 1.f / sum[1]};
    long long row = first + 16 * warp;
    store<wide>(a.o, row, n - 16 * warp, h * a.dim, a.dim, acc, f, false);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int r = lane / 4 + 8 * i;
        if (lane % 4 == 0 && 16 * warp + r < n) put(a.lse, (row + r) * a.lse.ld + h, top[i] + logf(sum[i]));
    }
}

#define BACK_COLS 32

// gradients turns scores and do·vᵀ into probabilities and dS, given the lse and Σ do·o of each element's query.
__device__ __forceinline__ void gradient(const AttentionArgs &a, float &s, float &d, bool seen, float lse, float delta) {
    float slope, v = score(a, s, slope);
    s = seen ? exp2f((v - lse) * LOG2E) : 0.f;
    d = seen ? s * (d - delta) * a.scale * slope : 0.f;
}

// attendTensorQ is the gradient of a tile of queries: keys pass by.
template <bool half, int wide> __device__ __forceinline__ void attendTensorQ(const AttentionArgs &a, unsigned short *room) {
    if (*a.gate) return;
    Sequence x;
    int lo, n, h = blockIdx.y, kv = h / (a.heads / a.kvHeads);
    if (!tileOf<BLOCK_ROWS>(a, blockIdx.x, x, lo, n)) return;
    unsigned short *rq = room, *rd = rq + BLOCK_ROWS * (wide + 8), *rk = rd + BLOCK_ROWS * (wide + 8), *rv = rk + BACK_COLS * (wide + 8);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    long long first = x.q0 + lo;
    halves<half>(a.q, first, n, BLOCK_ROWS, h * a.dim, a.dim, wide, rq);
    halves<half>(a.dO, first, n, BLOCK_ROWS, h * a.dim, a.dim, wide, rd);
    float acc[wide / 8][4], lse[2] = {0, 0}, delta[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int q = 16 * warp + lane / 4 + 8 * i;
        if (q < n) lse[i] = get(a.lse, (first + q) * a.lse.ld + h), delta[i] = a.delta[(first + q) * a.heads + h];
    }
#pragma unroll
    for (int j = 0; j < wide / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) acc[j][e] = 0;
    int prefix = a.pk.p ? a.pk.rows : 0;
    int from = a.window > 0 ? max(0, x.ahead + lo - a.window + 1) : 0, to = x.ahead + lo + n;
    int prefixTiles = (prefix + BACK_COLS - 1) / BACK_COLS, tiles = prefixTiles + (to - from + BACK_COLS - 1) / BACK_COLS;
    for (int t = 0; t < tiles; t++) {
        bool on = t < prefixTiles;
        int j0 = on ? t * BACK_COLS : from + (t - prefixTiles) * BACK_COLS, keys = min(BACK_COLS, (on ? prefix : to) - j0);
        halves<half>(on ? a.pk : a.k, on ? j0 : x.k0 + j0, keys, BACK_COLS, kv * a.dim, a.dim, wide, rk);
        halves<half>(on ? a.pv : a.v, on ? j0 : x.k0 + j0, keys, BACK_COLS, kv * a.dim, a.dim, wide, rv);
        commitCopies();
        waitCopies(0);
        __syncthreads();
        float s[BACK_COLS / 8][4], d[BACK_COLS / 8][4];
        times<half, wide, BACK_COLS>(rq + 16 * warp * (wide + 8), rk, s);
        times<half, wide, BACK_COLS>(rd + 16 * warp * (wide + 8), rv, d);
#pragma unroll
        for (int j = 0; j < BACK_COLS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int q = 16 * warp + lane / 4 + 8 * (e / 2), c = 8 * j + lane % 4 * 2 + e % 2;
                bool seen = q < n && c < keys && (on || sees(a, x.ahead + lo + q, j0 + c));
                gradient(a, s[j][e], d[j][e], seen, lse[e / 2], delta[e / 2]);
            }
        adds<half, wide, BACK_COLS>(d, rk, acc);
        __syncthreads();
    }
    float one[2] = {1.f, 1.f};
    store<wide>(a.dq, first + 16 * warp, n - 16 * warp, h * a.dim, a.dim, acc, one, a.add);
}

// attendTensorK is the gradient of a tile of rows of k and v, or of the prefix: queries pass by, of all sequences that see
// them and of all query heads that share the key head, in order.
template <bool half, int wide> __device__ __forceinline__ void attendTensorK(const AttentionArgs &a, unsigned short *room) {
    if (*a.gate) return;
    int kv = blockIdx.y, group = a.heads / a.kvHeads, row0 = blockIdx.x * BLOCK_ROWS;
    const Mat &k = a.onPrefix ? a.pk : a.k, &v = a.onPrefix ? a.pv : a.v;
    int keys = min(BLOCK_ROWS, k.rows - row0);
    unsigned short *rk = room, *rv = rk + BLOCK_ROWS * (wide + 8), *rq = rv + BLOCK_ROWS * (wide + 8), *rd = rq + BACK_COLS * (wide + 8);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    halves<half>(k, row0, keys, BLOCK_ROWS, kv * a.dim, a.dim, wide, rk);
    halves<half>(v, row0, keys, BLOCK_ROWS, kv * a.dim, a.dim, wide, rv);
    commitCopies();
    float dk[wide / 8][4], dv[wide / 8][4];
#pragma unroll
    for (int j = 0; j < wide / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) dk[j][e] = dv[j][e] = 0;
    for (int i = 0; i < a.count; i++) {
        Sequence x = sequence(a, i);
        int from = 0, to = x.queries;
        if (!a.onPrefix) {
            int j0 = max(0, row0 - x.k0), j1 = min(x.keys, row0 + keys - x.k0);
            if (j0 >= j1) continue;
            from = max(0, j0 - x.ahead);
            if (a.window > 0) to = min(to, j1 - 1 - x.ahead + a.window);
        }
        for (int h = kv * group; h < (kv + 1) * group; h++)
            for (int q0 = from; q0 < to; q0 += BACK_COLS) {
                int n = min(BACK_COLS, to - q0);
                halves<half>(a.q, x.q0 + q0, n, BACK_COLS, h * a.dim, a.dim, wide, rq);
                halves<half>(a.dO, x.q0 + q0, n, BACK_COLS, h * a.dim, a.dim, wide, rd);
                commitCopies();
                waitCopies(0);
                __syncthreads();
                float s[BACK_COLS / 8][4], d[BACK_COLS / 8][4];
                times<half, wide, BACK_COLS>(rk + 16 * warp * (wide + 8), rq, s);
                times<half, wide, BACK_COLS>(rv + 16 * warp * (wide + 8), rd, d);
#pragma unroll
                for (int j = 0; j < BACK_COLS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        int r = 16 * warp + lane / 4 + 8 * (e / 2), c = 8 * j + lane % 4 * 2 + e % 2, key = row0 + r - x.k0;
                        bool seen = r < keys && c < n && (a.onPrefix || (key >= 0 && key < x.keys && sees(a, x.ahead + q0 + c, key)));
                        long long q = x.q0 + q0 + c;
                        float lse = seen ? get(a.lse, q * a.lse.ld + h) : 0.f, delta = seen ? a.delta[q * a.heads + h] : 0.f;
                        gradient(a, s[j][e], d[j][e], seen, lse, delta);
                    }
                adds<half, wide, BACK_COLS>(s, rd, dv);
                adds<half, wide, BACK_COLS>(d, rq, dk);
                __syncthreads();
            }
    }
    const Mat &gk = a.onPrefix ? a.dpk : a.dk, &gv = a.onPrefix ? a.dpv : a.dv;
    bool add = a.onPrefix || a.add;
    float one[2] = {1.f, 1.f};
    waitCopies(0); // where no query passed by
    store<wide>(gk, row0 + 16 * warp, keys - 16 * warp, kv * a.dim, a.dim, dk, one, add);
    store<wide>(gv, row0 + 16 * warp, keys - 16 * warp, kv * a.dim, a.dim, dv, one, add);
}

#define ATTEND_HALF(name, function, half, wide)                                                                                    \
    KERNEL(name, 128, AttentionArgs) {                                                                                             \
        SHARED_DYNAMIC(unsigned short, room);                                                                                      \
        function<half, wide>(a, room);                                                                                             \
    }
ATTEND_HALF(attendBF64, attendTensor, false, 64)
ATTEND_HALF(attendBF128, attendTensor, false, 128)
ATTEND_HALF(attendF64, attendTensor, true, 64)
ATTEND_HALF(attendF128, attendTensor, true, 128)
ATTEND_HALF(attendBackQBF64, attendTensorQ, false, 64)
ATTEND_HALF(attendBackQBF128, attendTensorQ, false, 128)
ATTEND_HALF(attendBackQF64, attendTensorQ, true, 64)
ATTEND_HALF(attendBackQF128, attendTensorQ, true, 128)
ATTEND_HALF(attendBackKBF64, attendTensorK, false, 64)
ATTEND_HALF(attendBackKBF128, attendTensorK, false, 128)
ATTEND_HALF(attendBackKF64, attendTensorK, true, 64)
ATTEND_HALF(attendBackKF128, attendTensorK, true, 128)
