// Attention over packed sequences, in float32: tiles of keys pass by, the scores of a tile are all that is ever held of
// the (T, T) matrix (Dao et al. 2022, arXiv:2205.14135). Operands are rounded first where products are to be computed in
// bfloat16 or binary16.
#include "attention.cuh"

struct CheckSequencesArgs {
    const int *qstart, *kstart, *klen;
    long long qstartLd, kstartLd, klenLd;
    int *gate, *fault;
    int count, queries, keys, op; // rows of q and of k
};

// checkSequences: tables that reach outside the tensors close the gate.
KERNEL(checkSequences, 256, CheckSequencesArgs) {
    SHARED(int, room, 32);
    int bad = threadIdx.x == 0 && (a.qstart[0] != 0 || a.qstart[a.count * a.qstartLd] != a.queries);
    for (int s = threadIdx.x; s < a.count; s += blockDim.x) {
        int lo = a.qstart[s * a.qstartLd], hi = a.qstart[(s + 1) * a.qstartLd], first = a.kstart[s * a.kstartLd], n = a.klen[s * a.klenLd];
        bad |= lo < 0 || hi < lo || hi > a.queries || n < hi - lo || first < 0 || n > a.keys - first;
    }
    bad = blockSum(bad, room);
    if (threadIdx.x == 0) {
        *a.gate = bad > 0;
        if (bad) report(a.fault, a.op);
    }
}

// rows reads rows [lo, lo+n) of head h of a matrix into room[most][dim+1], rounded to the type of products; the rest is 0.
static __device__ NOINLINE void rows(const Mat &m, long long lo, int n, int most, int h, int dim, int compute, float *room) {
    for (int t = threadIdx.x; t < most * dim; t += blockDim.x) {
        int r = t / dim, d = t - r * dim;
        room[r * (dim + 1) + d] = r < n ? rounded(get(m, (lo + r) * m.ld + h * dim + d), compute) : 0.f;
    }
}

static __device__ NOINLINE float dot(const float *x, const float *y, int dim) {
    float s = 0;
    for (int d = 0; d < dim; d++) s = fmaf(x[d], y[d], s);
    return s;
}

#define KEYS 32    // of a tile: one for each lane
#define QUERIES 16 // of a block: four for each warp

// Shared memory of a block that has queries: keys, values, queries, gradients of outputs, probabilities.
template <int parts> __device__ __forceinline__ void attend(const AttentionArgs &a, float *room, bool backward) {
    if (*a.gate) return;
    Sequence x;
    int lo, n, h = blockIdx.y, kv = h / (a.heads / a.kvHeads), dim = a.dim, width = dim + 1;
    if (!tileOf<QUERIES>(a, blockIdx.x, x, lo, n)) return;
    float *rk = room, *rv = rk + KEYS * width, *rq = rv + KEYS * width, *rd = rq + QUERIES * width, *rp = rd + (backward ? QUERIES * width : 0);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    long long first = x.q0 + lo;
    rows(a.q, first, n, QUERIES, h, dim, a.compute, rq);
    if (backward) rows(a.dO, first, n, QUERIES, h, dim, a.compute, rd);
    float acc[4][parts], top[4], sum[4], lse[4], delta[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        top[i] = NEG_INF, sum[i] = 0;
        int q = warp * 4 + i;
        lse[i] = delta[i] = 0;
        if (backward && q < n) {
            lse[i] = get(a.lse, (first + q) * a.lse.ld + h);
            delta[i] = a.delta[(first + q) * a.heads + h];
        }
#pragma unroll
        for (int t = 0; t < parts; t++) acc[i][t] = 0;
    }
    int prefix = a.pk.p ? a.pk.rows : 0;
    int from = a.window > 0 ? max(0, x.ahead + lo - a.window + 1) : 0, to = x.ahead + lo + n; // keys in sight
    int prefixTiles = (prefix + KEYS - 1) / KEYS, tiles = prefixTiles + (to - from + KEYS - 1) / KEYS;
    for (int t = 0; t < tiles; t++) {
        bool onPrefix = t < prefixTiles;
        int j0 = onPrefix ? t * KEYS : from + (t - prefixTiles) * KEYS, keys = min(KEYS, (onPrefix ? prefix : to) - j0);
        __syncthreads(); // nobody reads the last tile any more
        rows(onPrefix ? a.pk : a.k, onPrefix ? j0 : x.k0 + j0, keys, KEYS, kv, dim, a.compute, rk);
        rows(onPrefix ? a.pv : a.v, onPrefix ? j0 : x.k0 + j0, keys, KEYS, kv, dim, a.compute, rv);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int q = warp * 4 + i;
            bool seen = q < n && lane < keys && (onPrefix || sees(a, x.ahead + lo + q, j0 + lane));
            float slope, s = score(a, dot(rq + q * width, rk + lane * width, dim), slope);
            if (backward) {
                float p = seen ? expf(s - lse[i]) : 0.f;
                float ds = seen ? p * (dot(rd + q * width, rv + lane * width, dim) - delta[i]) * a.scale * slope : 0.f;
                rp[q * KEYS + lane] = rounded(ds, a.compute);
                continue;
            }
            if (!seen) s = NEG_INF;
            float most = fmaxf(top[i], warpMax(s)), keep = top[i] == NEG_INF ? 0.f : expf(top[i] - most);
            float p = s == NEG_INF ? 0.f : expf(s - most);
            sum[i] = sum[i] * keep + warpSum(p);
            top[i] = most;
#pragma unroll
            for (int u = 0; u < parts; u++) acc[i][u] *= keep;
            rp[q * KEYS + lane] = rounded(p, a.compute);
        }
        __syncwarp();
        const float *values = backward ? rk : rv;
        int low[4], high[4]; // what each query sees: what it does not see it must not multiply by 0, which may be a NaN
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int own = x.ahead + lo + warp * 4 + i;
            low[i] = onPrefix || a.window == 0 ? 0 : own - a.window + 1 - j0;
            high[i] = onPrefix ? keys : own + 1 - j0;
        }
#pragma unroll 1
        for (int j = 0; j < keys; j++)
#pragma unroll
            for (int u = 0; u < parts; u++) {
                int d = lane + 32 * u;
                float v = d < dim ? values[j * width + d] : 0.f;
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (j >= low[i] && j < high[i]) acc[i][u] = fmaf(rp[(warp * 4 + i) * KEYS + j], v, acc[i][u]);
            }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int q = warp * 4 + i;
        if (q >= n) continue;
        long long row = first + q;
        if (!backward && lane == 0) put(a.lse, row * a.lse.ld + h, top[i] + logf(sum[i]));
#pragma unroll
        for (int u = 0; u < parts; u++) {
            int d = lane + 32 * u;
            if (d >= dim) continue;
            if (!backward) {
                put(a.o, row * a.o.ld + h * dim + d, acc[i][u] / sum[i]);
                continue;
            }
            long long k = row * a.dq.ld + h * dim + d;
            put(a.dq, k, a.add ? get(a.dq, k) + acc[i][u] : acc[i][u]);
        }
    }
}

#define ATTEND(name, parts, backward)                                                                                              \
    KERNEL_ROOMY(name, 128, AttentionArgs) {                                                                                             \
        SHARED_DYNAMIC(float, room);                                                                                               \
        attend<parts>(a, room, backward);                                                                                          \
    }
ATTEND(attend32, 1, false)
ATTEND(attend64, 2, false)
ATTEND(attend128, 4, false)
ATTEND(attend256, 8, false)
ATTEND(attendBackQ32, 1, true)
ATTEND(attendBackQ64, 2, true)
ATTEND(attendBackQ128, 4, true)
ATTEND(attendBackQ256, 8, true)

// attendDelta is Σ do·o for each query and head.
KERNEL(attendDelta, 128, AttentionArgs) {
    if (*a.gate) return;
    int lane = threadIdx.x % 32;
    long long t = (long long)blockIdx.x * 4 + threadIdx.x / 32, row = t / a.heads;
    int h = (int)(t - row * a.heads);
    bool mine = row < a.q.rows;
    float s = 0;
    for (int d = lane; mine && d < a.dim; d += 32) s = fmaf(get(a.dO, row * a.dO.ld + h * a.dim + d), get(a.o, row * a.o.ld + h * a.dim + d), s);
    s = warpSum(s);
    if (mine && lane == 0) a.delta[row * a.heads + h] = s;
}

// attendKeys is the gradient of a tile of rows of k and v, or of the prefix: a block walks all queries that see them, of
// all sequences and of the query heads that share the key head, in order. A warp has `each` rows.
template <int parts, int each, int wide> __device__ __forceinline__ void attendKeys(const AttentionArgs &a, float *room) {
    if (*a.gate) return;
    const int most = 4 * each;
    int kv = blockIdx.y, dim = a.dim, width = dim + 1, group = a.heads / a.kvHeads;
    const Mat &k = a.onPrefix ? a.pk : a.k, &v = a.onPrefix ? a.pv : a.v;
    int row0 = blockIdx.x * most, keys = min(most, k.rows - row0);
    float *rk = room, *rv = rk + most * width, *rq = rv + most * width, *rd = rq + wide * width, *rp = rd + wide * width, *rs = rp + most * wide;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    rows(k, row0, keys, most, kv, dim, a.compute, rk);
    rows(v, row0, keys, most, kv, dim, a.compute, rv);
    float dk[each][parts], dv[each][parts];
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int u = 0; u < parts; u++) dk[i][u] = dv[i][u] = 0;
    for (int s = 0; s < a.count; s++) {
        Sequence x = sequence(a, s);
        int from = 0, to = x.queries;
        if (!a.onPrefix) {
            int j0 = max(0, row0 - x.k0), j1 = min(x.keys, row0 + keys - x.k0); // the tile's keys of this sequence
            if (j0 >= j1) continue;
            from = max(0, j0 - x.ahead);
            if (a.window > 0) to = min(to, j1 - 1 - x.ahead + a.window);
        }
        for (int h = kv * group; h < (kv + 1) * group; h++)
            for (int q0 = from; q0 < to; q0 += wide) {
                int n = min(wide, to - q0);
                __syncthreads();
                rows(a.q, x.q0 + q0, n, wide, h, dim, a.compute, rq);
                rows(a.dO, x.q0 + q0, n, wide, h, dim, a.compute, rd);
                __syncthreads();
                float lse = 0, delta = 0;
                if (lane < n) {
                    lse = get(a.lse, (long long)(x.q0 + q0 + lane) * a.lse.ld + h);
                    delta = a.delta[(long long)(x.q0 + q0 + lane) * a.heads + h];
                }
#pragma unroll
                for (int i = 0; i < each; i++) {
                    int r = warp * each + i, j = row0 + r - x.k0;
                    bool seen = r < keys && lane < n && (a.onPrefix || (j >= 0 && j < x.keys && sees(a, x.ahead + q0 + lane, j)));
                    float p = 0, ds = 0;
                    if (seen) {
                        float slope, sc = score(a, dot(rq + lane * width, rk + r * width, dim), slope);
                        p = expf(sc - lse);
                        ds = p * (dot(rd + lane * width, rv + r * width, dim) - delta) * a.scale * slope;
                    }
                    if (lane < wide) {
                        rp[r * wide + lane] = rounded(p, a.compute);
                        rs[r * wide + lane] = rounded(ds, a.compute);
                    }
                }
                __syncwarp();
                int low[each], high[each]; // the queries of the tile that see each key
#pragma unroll
                for (int i = 0; i < each; i++) {
                    int j = row0 + warp * each + i - x.k0, first = j - x.ahead - q0;
                    low[i] = a.onPrefix ? 0 : first;
                    high[i] = a.onPrefix ? n : j < 0 || j >= x.keys ? 0 : a.window > 0 ? first + a.window : n;
                }
#pragma unroll 1
                for (int q = 0; q < n; q++)
#pragma unroll
                    for (int u = 0; u < parts; u++) {
                        int d = lane + 32 * u;
                        float qd = d < dim ? rq[q * width + d] : 0.f, od = d < dim ? rd[q * width + d] : 0.f;
#pragma unroll
                        for (int i = 0; i < each; i++) {
                            if (q < low[i] || q >= high[i]) continue;
                            dv[i][u] = fmaf(rp[(warp * each + i) * wide + q], od, dv[i][u]);
                            dk[i][u] = fmaf(rs[(warp * each + i) * wide + q], qd, dk[i][u]);
                        }
                    }
            }
    }
    const Mat &gk = a.onPrefix ? a.dpk : a.dk, &gv = a.onPrefix ? a.dpv : a.dv;
    bool add = a.onPrefix || a.add;
#pragma unroll
    for (int i = 0; i < each; i++) {
        int r = warp * each + i;
        if (r >= keys) continue;
#pragma unroll
        for (int u = 0; u < parts; u++) {
            int d = lane + 32 * u;
            if (d >= dim) continue;
            long long tk = (long long)(row0 + r) * gk.ld + kv * dim + d, tv = (long long)(row0 + r) * gv.ld + kv * dim + d;
            put(gk, tk, add ? get(gk, tk) + dk[i][u] : dk[i][u]);
            put(gv, tv, add ? get(gv, tv) + dv[i][u] : dv[i][u]);
        }
    }
}

#define ATTEND_KEYS(name, parts, each, wide)                                                                                       \
    KERNEL_ROOMY(name, 128, AttentionArgs) {                                                                                             \
        SHARED_DYNAMIC(float, room);                                                                                               \
        attendKeys<parts, each, wide>(a, room);                                                                                    \
    }
ATTEND_KEYS(attendBackK32, 1, 8, 32)
ATTEND_KEYS(attendBackK64, 2, 8, 32)
ATTEND_KEYS(attendBackK128, 4, 8, 32)
ATTEND_KEYS(attendBackK256, 8, 4, 16)
