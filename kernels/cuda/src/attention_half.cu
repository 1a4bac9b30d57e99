// Attention in the tensor cores, for products in bfloat16 or binary16 (Dao 2023, arXiv:2307.08691). A warp has 16 rows of
// a block's 64; scores, softmax and sums are float32 in registers, spread over the warp as mma has its results. What passes
// by is copied for the next turn while the tensor cores work on this one.
#include "attention.cuh"

#define BLOCK_ROWS 64
#define TENSOR_THREADS 128
#define LOG2E 1.4426950408889634f

// convertRows is brought for rows that cannot be copied as they are.
template <bool half> static __device__ NOINLINE void convertRows(const Mat &m, long long lo, int n, int most, int first, int dim, int wide, unsigned short *room) {
    for (int t = threadIdx.x; t < most * (wide / 8); t += blockDim.x) {
        int r = t / (wide / 8), c = t % (wide / 8) * 8, some = r < n ? dim - c : 0;
        some = some < 0 ? 0 : some > 8 ? 8 : some;
        long long at = (lo + r) * m.ld + first + c;
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < some ? get(m, at + i) : 0.f;
        store16(room + r * (wide + 8) + c, make_uint4(pack<half>(v[0], v[1]), pack<half>(v[2], v[3]), pack<half>(v[4], v[5]), pack<half>(v[6], v[7])));
    }
}

// brought reads rows [lo, lo+n) of a head, from column `first` on, into room[most][wide+8], rounded; the rest is 0.
template <bool half, int wide, int most>
__device__ __forceinline__ void brought(const Mat &m, long long lo, int n, int first, int dim, unsigned short *room) {
    const int runs = wide / 8, rows = TENSOR_THREADS / runs; // of a row; at a time
    const char *p = m.p + 2 * (lo * m.ld + first);
    if (half || m.type != BF16 || dim % 8 || (((unsigned long long)p | 2 * (unsigned long long)m.ld) & 15)) {
        convertRows<half>(m, lo, n, most, first, dim, wide, room);
        return;
    }
    int r = threadIdx.x / runs, c = threadIdx.x % runs * 8;
    p += 2 * (r * m.ld + c);
    unsigned short *to = room + r * (wide + 8) + c;
#pragma unroll
    for (int i = 0; i < most / rows; i++) {
        bool there = r + i * rows < n && c < dim;
        copy16(to + i * rows * (wide + 8), there ? p + 2 * i * rows * m.ld : m.p, there ? 16 : 0);
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
    for (int i = 0; i < 2; i++) {
        int r = lane / 4 + 8 * i;
        if (r >= n) continue;
        long long row = (lo + r) * m.ld + first;
#pragma unroll
        for (int j = 0; j < wide / 8; j++) {
            int c = 8 * j + lane % 4 * 2;
            float u = acc[j][2 * i] * f[i], v = acc[j][2 * i + 1] * f[i];
            char *to = m.p + 2 * (row + c);
            if (m.type == BF16 && !add && c + 1 < dim && ((unsigned long long)to & 3) == 0) {
                *(unsigned *)to = pack<false>(u, v);
                continue;
            }
            if (c < dim) put(m, row + c, add ? get(m, row + c) + u : u);
            if (c + 1 < dim) put(m, row + c + 1, add ? get(m, row + c + 1) + v : v);
        }
    }
}

// Powers says how products become probabilities: 2^(product·k - …) where scores are only scaled, and else the scores are made
// first.
struct Powers {
    bool plain;
    float k;
};
__device__ __forceinline__ Powers powers(const AttentionArgs &a) {
    bool plain = a.softcap <= 0.f && a.scale > 0.f;
    return Powers{plain, plain ? a.scale * LOG2E : LOG2E};
}

#define FORWARD_KEYS 64

template <bool half, int wide> __device__ __forceinline__ void attendTensor(const AttentionArgs &a, unsigned short *room) {
    if (*a.gate) return;
    Sequence x;
    int lo, n, h = blockIdx.y, kv = h / (a.heads / a.kvHeads);
    if (!tileOf<BLOCK_ROWS>(a, gridDim.x - 1 - blockIdx.x, x, lo, n)) return; // those that see most keys begin first
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
            brought<half, wide, FORWARD_KEYS>(on ? a.pk : a.k, on ? j0 : x.k0 + j0, keys, kv * a.dim, a.dim, rk + t % 2 * tile);
            brought<half, wide, FORWARD_KEYS>(on ? a.pv : a.v, on ? j0 : x.k0 + j0, keys, kv * a.dim, a.dim, rv + t % 2 * tile);
        }
        commitCopies();
    };
    brought<half, wide, BLOCK_ROWS>(a.q, first, n, h * a.dim, a.dim, rq);
    bring(0);
    Powers as = powers(a);
    float acc[wide / 8][4], top[2] = {NEG_INF, NEG_INF}, sum[2] = {0, 0}; // sums of a lane's own columns
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
        if (!as.plain) {
            float slope;
#pragma unroll
            for (int j = 0; j < FORWARD_KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) s[j][e] = score(a, s[j][e], slope);
        }
        int own = x.ahead + lo + 16 * warp; // the last key that the warp's first row sees
        bool all = keys == FORWARD_KEYS && (on || (j0 + FORWARD_KEYS - 1 <= own && (a.window == 0 || j0 > own + 15 - a.window)));
        if (!all)
#pragma unroll
            for (int j = 0; j < FORWARD_KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int c = 8 * j + lane % 4 * 2 + e % 2;
                    if (c >= keys || !(on || sees(a, own + lane / 4 + 8 * (e / 2), j0 + c))) s[j][e] = NEG_INF;
                }
#pragma unroll
        for (int j = 0; j < FORWARD_KEYS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) most[e / 2] = fmaxf(most[e / 2], s[j][e]);
        float base[2], keep[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            most[i] = quadMax(most[i]);
            base[i] = most[i] == NEG_INF ? 0.f : -most[i] * as.k;
            keep[i] = top[i] == NEG_INF ? 0.f : exp2Fast(fmaf(top[i], as.k, base[i]));
            top[i] = most[i];
            sum[i] *= keep[i];
        }
#pragma unroll
        for (int j = 0; j < FORWARD_KEYS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[j][e] = exp2Fast(fmaf(s[j][e], as.k, base[e / 2]));
                sum[e / 2] += s[j][e];
            }
#pragma unroll
        for (int j = 0; j < wide / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[j][e] *= keep[e / 2];
        adds<half, wide, FORWARD_KEYS>(s, rv + t % 2 * tile, acc);
        __syncthreads(); // the stage may be filled again
    }
    float f[2];
#pragma unroll
    for (int i = 0; i < 2; i++) sum[i] = quadSum(sum[i]), f[i] = 1.f / sum[i];
    long long row = first + 16 * warp;
    store<wide>(a.o, row, n - 16 * warp, h * a.dim, a.dim, acc, f, false);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int r = lane / 4 + 8 * i;
        if (lane % 4 == 0 && 16 * warp + r < n) put(a.lse, (row + r) * a.lse.ld + h, top[i] * (as.plain ? a.scale : 1.f) + logf(sum[i]));
    }
}

#define BACK_COLS 32

// gradient turns a product of query and key and one of do and v into the probability and dS but for the scale, given what its
// query has: -log2(e)·lse and Σ do·o.
__device__ __forceinline__ void gradient(const AttentionArgs &a, const Powers &as, float &s, float &d, float lse, float delta) {
    float slope = 1.f;
    if (!as.plain) s = score(a, s, slope);
    s = exp2Fast(fmaf(s, as.k, lse));
    d = s * (d - delta);
    if (!as.plain) d *= slope;
}

// attendTensorQ is the gradient of a tile of queries: keys pass by.
template <bool half, int wide> __device__ __forceinline__ void attendTensorQ(const AttentionArgs &a, unsigned short *room) {
    if (*a.gate) return;
    Sequence x;
    int lo, n, h = blockIdx.y, kv = h / (a.heads / a.kvHeads);
    if (!tileOf<BLOCK_ROWS>(a, gridDim.x - 1 - blockIdx.x, x, lo, n)) return;
    const int tile = BACK_COLS * (wide + 8);
    unsigned short *rq = room, *rd = rq + BLOCK_ROWS * (wide + 8), *rk = rd + BLOCK_ROWS * (wide + 8), *rv = rk + 2 * tile; // two stages
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    long long first = x.q0 + lo;
    int prefix = a.pk.p ? a.pk.rows : 0;
    int from = a.window > 0 ? max(0, x.ahead + lo - a.window + 1) : 0, to = x.ahead + lo + n;
    int prefixTiles = (prefix + BACK_COLS - 1) / BACK_COLS, tiles = prefixTiles + (to - from + BACK_COLS - 1) / BACK_COLS;
    auto bring = [&](int t) {
        if (t < tiles) {
            bool on = t < prefixTiles;
            int j0 = on ? t * BACK_COLS : from + (t - prefixTiles) * BACK_COLS, keys = min(BACK_COLS, (on ? prefix : to) - j0);
            brought<half, wide, BACK_COLS>(on ? a.pk : a.k, on ? j0 : x.k0 + j0, keys, kv * a.dim, a.dim, rk + t % 2 * tile);
            brought<half, wide, BACK_COLS>(on ? a.pv : a.v, on ? j0 : x.k0 + j0, keys, kv * a.dim, a.dim, rv + t % 2 * tile);
        }
        commitCopies();
    };
    brought<half, wide, BLOCK_ROWS>(a.q, first, n, h * a.dim, a.dim, rq);
    brought<half, wide, BLOCK_ROWS>(a.dO, first, n, h * a.dim, a.dim, rd);
    bring(0);
    Powers as = powers(a);
    float acc[wide / 8][4], lse[2] = {0, 0}, delta[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int q = 16 * warp + lane / 4 + 8 * i;
        if (q < n) lse[i] = -LOG2E * get(a.lse, (first + q) * a.lse.ld + h), delta[i] = a.delta[(first + q) * a.heads + h];
    }
#pragma unroll
    for (int j = 0; j < wide / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) acc[j][e] = 0;
    for (int t = 0; t < tiles; t++) {
        bool on = t < prefixTiles;
        int j0 = on ? t * BACK_COLS : from + (t - prefixTiles) * BACK_COLS, keys = min(BACK_COLS, (on ? prefix : to) - j0);
        bring(t + 1);
        waitCopies(1);
        __syncthreads();
        float s[BACK_COLS / 8][4], d[BACK_COLS / 8][4];
        times<half, wide, BACK_COLS>(rq + 16 * warp * (wide + 8), rk + t % 2 * tile, s);
        times<half, wide, BACK_COLS>(rd + 16 * warp * (wide + 8), rv + t % 2 * tile, d);
        int own = x.ahead + lo + 16 * warp;
        bool all = keys == BACK_COLS && (on || (j0 + BACK_COLS - 1 <= own && (a.window == 0 || j0 > own + 15 - a.window)));
#pragma unroll
        for (int j = 0; j < BACK_COLS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                gradient(a, as, s[j][e], d[j][e], lse[e / 2], delta[e / 2]);
                int c = 8 * j + lane % 4 * 2 + e % 2;
                if (!all && (c >= keys || !(on || sees(a, own + lane / 4 + 8 * (e / 2), j0 + c)))) d[j][e] = 0.f;
            }
        adds<half, wide, BACK_COLS>(d, rk + t % 2 * tile, acc);
        __syncthreads();
    }
    float f[2] = {a.scale, a.scale};
    store<wide>(a.dq, first + 16 * warp, n - 16 * warp, h * a.dim, a.dim, acc, f, a.add);
}

// attendTensorK is the gradient of a tile of rows of k and v, or of the prefix: queries pass by, of all sequences that see
// them and of all query heads that share the key head, in order.
template <bool half, int wide> __device__ __forceinline__ void attendTensorK(const AttentionArgs &a, unsigned short *room) {
    SHARED(float, stats, 2 * 2 * BACK_COLS); // of the queries that pass by: -log2(e)·lse and Σ do·o, in two stages
    if (*a.gate) return;
    int kv = blockIdx.y, group = a.heads / a.kvHeads, row0 = blockIdx.x * BLOCK_ROWS;
    const Mat &k = a.onPrefix ? a.pk : a.k, &v = a.onPrefix ? a.pv : a.v;
    int keys = min(BLOCK_ROWS, k.rows - row0);
    const int tile = BACK_COLS * (wide + 8);
    unsigned short *rk = room, *rv = rk + BLOCK_ROWS * (wide + 8), *rq = rv + BLOCK_ROWS * (wide + 8), *rd = rq + 2 * tile;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    brought<half, wide, BLOCK_ROWS>(k, row0, keys, kv * a.dim, a.dim, rk);
    brought<half, wide, BLOCK_ROWS>(v, row0, keys, kv * a.dim, a.dim, rv);
    commitCopies();
    Powers as = powers(a);
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
        if (from >= to) continue;
        int per = (to - from + BACK_COLS - 1) / BACK_COLS, turns = group * per; // of a head; of all heads
        auto bring = [&](int u) {
            if (u < turns) {
                int h = kv * group + u / per, q0 = from + u % per * BACK_COLS, n = min(BACK_COLS, to - q0);
                brought<half, wide, BACK_COLS>(a.q, x.q0 + q0, n, h * a.dim, a.dim, rq + u % 2 * tile);
                brought<half, wide, BACK_COLS>(a.dO, x.q0 + q0, n, h * a.dim, a.dim, rd + u % 2 * tile);
            }
            commitCopies();
        };
        // stat is what a thread of the first two warps knows of a query of a turn: one its lse, the other its delta.
        auto stat = [&](int u) {
            int h = kv * group + u / per, q0 = from + u % per * BACK_COLS + lane;
            long long q = x.q0 + q0;
            if (u >= turns || warp > 1 || q0 >= to) return 0.f;
            return warp == 0 ? -LOG2E * get(a.lse, q * a.lse.ld + h) : a.delta[q * a.heads + h];
        };
        bring(0);
        if (warp < 2) stats[warp * BACK_COLS + lane] = stat(0);
        for (int u = 0; u < turns; u++) {
            int q0 = from + u % per * BACK_COLS, n = min(BACK_COLS, to - q0);
            bring(u + 1);
            float later = stat(u + 1);
            waitCopies(1);
            __syncthreads();
            float s[BACK_COLS / 8][4], d[BACK_COLS / 8][4];
            times<half, wide, BACK_COLS>(rk + 16 * warp * (wide + 8), rq + u % 2 * tile, s);
            times<half, wide, BACK_COLS>(rv + 16 * warp * (wide + 8), rd + u % 2 * tile, d);
            int key = row0 + 16 * warp - x.k0, own = x.ahead + q0; // of the warp's first row; that the first query sees
            bool all = n == BACK_COLS && (a.onPrefix || (key >= 0 && key + 15 < x.keys && key + 15 <= own && (a.window == 0 || key > own + BACK_COLS - 1 - a.window)));
            const float *now = stats + u % 2 * 2 * BACK_COLS;
#pragma unroll
            for (int j = 0; j < BACK_COLS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int r = lane / 4 + 8 * (e / 2), c = 8 * j + lane % 4 * 2 + e % 2;
                    gradient(a, as, s[j][e], d[j][e], now[c], now[BACK_COLS + c]);
                    if (!all && (c >= n || !(a.onPrefix || (key + r >= 0 && key + r < x.keys && sees(a, own + c, key + r))))) s[j][e] = d[j][e] = 0.f;
                }
            adds<half, wide, BACK_COLS>(s, rd + u % 2 * tile, dv);
            adds<half, wide, BACK_COLS>(d, rq + u % 2 * tile, dk);
            if (warp < 2) stats[(u + 1) % 2 * 2 * BACK_COLS + warp * BACK_COLS + lane] = later;
            __syncthreads();
        }
    }
    const Mat &gk = a.onPrefix ? a.dpk : a.dk, &gv = a.onPrefix ? a.dpv : a.dv;
    bool add = a.onPrefix || a.add;
    float f[2] = {a.scale, a.scale}, one[2] = {1.f, 1.f};
    waitCopies(0); // where no query passed by
    store<wide>(gk, row0 + 16 * warp, keys - 16 * warp, kv * a.dim, a.dim, dk, f, add);
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
