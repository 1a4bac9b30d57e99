// Products, where cuBLASLt does not compute them.
#include "gemm.cuh"

// gemmF32 multiplies in float32: blocks of 64x64, of which a thread has 4x4. Each sum is one chain of fused multiply-adds
// in rising k that starts at c + bias, as on the CPU.
#define TILE 64
#define DEEP 16

// fill reads one run of a tile: (TILE, DEEP) of an operand with k along its rows, or (DEEP, TILE) with k across them, into
// room[k][TILE + 4].
__device__ __forceinline__ void fill(const Operand &o, bool across, int t, int lo, int most, int k0, int k, float *room) {
    if (!across) {
        int r = t / 2, c = t % 2 * 8, n = k - k0 - c;
        Eight e = read8(o, lo + r, k0 + c, lo + r < most ? (n < 0 ? 0 : n > 8 ? 8 : n) : 0);
#pragma unroll
        for (int i = 0; i < 8; i++) room[(c + i) * (TILE + 4) + r] = e.v[i];
        return;
    }
    int r = t / 8, c = t % 8 * 8, n = most - lo - c;
    Eight e = read8(o, k0 + r, lo + c, k0 + r < k ? (n < 0 ? 0 : n > 8 ? 8 : n) : 0);
#pragma unroll
    for (int i = 0; i < 8; i++) room[r * (TILE + 4) + c + i] = e.v[i];
}

KERNEL(gemmF32, 256, ProductArgs) {
    SHARED(float, roomA, DEEP * (TILE + 4));
    SHARED(float, roomB, DEEP * (TILE + 4));
    int i0 = blockIdx.y * TILE, j0 = blockIdx.x * TILE, t = threadIdx.x;
    int row = t / 16 * 4, col = t % 16 * 4;
    float acc[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int r = i0 + row + i, c = j0 + col + j;
            acc[i][j] = r < a.m && c < a.n ? start(a, r, c) : 0.f;
        }
    for (int k0 = 0; k0 < a.k; k0 += DEEP) {
        if (t < 128)
            fill(a.a, a.ta, t, i0, a.m, k0, a.k, roomA);
        else
            fill(a.b, !a.tb, t - 128, j0, a.n, k0, a.k, roomB);
        __syncthreads();
        int deep = min(DEEP, a.k - k0);
        for (int k = 0; k < deep; k++) {
            float x[4], y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) x[i] = roomA[k * (TILE + 4) + row + i];
#pragma unroll
            for (int j = 0; j < 4; j++) y[j] = roomB[k * (TILE + 4) + col + j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int r = i0 + row + i, c = j0 + col + j;
            if (r < a.m && c < a.n) put(a.c, r * a.c.ld + c, acc[i][j]);
        }
}

// gemmHalf multiplies bfloat16 or binary16 numbers in the tensor cores: blocks of 128x128, a warp has 64x32, three stages
// of 32 along k in flight. Operands that are stored as what is multiplied are copied asynchronously; others are
// converted on the way.
#define WIDE 128
#define STEP 32
#define STAGES 3
#define STAGE_ELEMENTS (WIDE * (STEP + 8)) // rows of 32 with a gap; (STEP, WIDE + 8) is smaller

// bring fills a stage of one operand: rows of STEP along k, or rows of WIDE across k. Each thread has 2 runs of 8.
template <bool half> __device__ __forceinline__ void bring(const Operand &o, bool across, int lo, int most, int k0, int k, unsigned short *room) {
#pragma unroll
    for (int u = 0; u < 2; u++) {
        int t = threadIdx.x + 256 * u, r, c, n;
        long long i;
        int j;
        unsigned short *to;
        if (!across) { // WIDE rows of STEP
            r = t / 4, c = t % 4 * 8;
            i = lo + r, j = k0 + c, n = i < most ? k - j : 0;
            to = room + r * (STEP + 8) + c;
        } else { // STEP rows of WIDE
            r = t / 16, c = t % 16 * 8;
            i = k0 + r, j = lo + c, n = i < k ? most - j : 0;
            to = room + r * (WIDE + 8) + c;
        }
        n = n < 0 ? 0 : n > 8 ? 8 : n;
        long long at = i * o.m.ld + j;
        if (!half && o.m.type == BF16 && (n == 0 || (((unsigned long long)o.m.p + 2 * (unsigned long long)at) & 15) == 0)) {
            copy16(to, n ? o.m.p + 2 * at : o.m.p, 2 * n);
            continue;
        }
        Eight e = read8(o, i, j, n);
        unsigned w[4];
#pragma unroll
        for (int x = 0; x < 4; x++) {
            unsigned lo16 = half ? toF16(e.v[2 * x]) : toBF16(e.v[2 * x]), hi16 = half ? toF16(e.v[2 * x + 1]) : toBF16(e.v[2 * x + 1]);
            w[x] = lo16 | hi16 << 16;
        }
        store16(to, make_uint4(w[0], w[1], w[2], w[3]));
    }
}

template <bool half> __device__ __forceinline__ void gemmTensor(const ProductArgs &a, unsigned short *room) {
    int i0 = blockIdx.y * WIDE, j0 = blockIdx.x * WIDE;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int wi = warp / 4 * 64, wj = warp % 4 * 32; // the warp's part
    int g = lane / 4, q = lane % 4 * 2;
    float acc[4][4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int r = i0 + wi + 16 * i + g + 8 * (e / 2), c = j0 + wj + 8 * j + q + e % 2;
                acc[i][j][e] = r < a.m && c < a.n ? start(a, r, c) : 0.f;
            }
    int steps = (a.k + STEP - 1) / STEP;
    auto stage = [&](int s) {
        if (s < steps) {
            unsigned short *at = room + s % STAGES * 2 * STAGE_ELEMENTS;
            bring<half>(a.a, a.ta, i0, a.m, s * STEP, a.k, at);
            bring<half>(a.b, !a.tb, j0, a.n, s * STEP, a.k, at + STAGE_ELEMENTS);
        }
        commitCopies();
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) stage(s);
    for (int s = 0; s < steps; s++) {
        waitCopies(STAGES - 2);
        __syncthreads(); // the stage is there for all, and all are done with the one that is filled next
        stage(s + STAGES - 1);
        const unsigned short *ra = room + s % STAGES * 2 * STAGE_ELEMENTS, *rb = ra + STAGE_ELEMENTS;
        int r = lane % 8, i1 = lane / 8 % 2 * 8, i2 = lane / 16 * 8;
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            unsigned fa[4][4], fb[4][2];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (a.ta)
                    loadMatrix4<true>(fa[i], ra + (k + i2 + r) * (WIDE + 8) + wi + 16 * i + i1);
                else
                    loadMatrix4<false>(fa[i], ra + (wi + 16 * i + i1 + r) * (STEP + 8) + k + i2);
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                unsigned f[4];
                if (a.tb)
                    loadMatrix4<false>(f, rb + (wj + 16 * j + i2 + r) * (STEP + 8) + k + i1);
                else
                    loadMatrix4<true>(f, rb + (k + i1 + r) * (WIDE + 8) + wj + 16 * j + i2);
                fb[2 * j][0] = f[0], fb[2 * j][1] = f[1], fb[2 * j + 1][0] = f[2], fb[2 * j + 1][1] = f[3];
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) mma<half>(acc[i][j], fa[i], fb[j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int r = i0 + wi + 16 * i + g + 8 * (e / 2), c = j0 + wj + 8 * j + q + e % 2;
                if (r < a.m && c < a.n) put(a.c, r * a.c.ld + c, acc[i][j][e]);
            }
}

KERNEL(gemmBF16, 256, ProductArgs) {
    SHARED_DYNAMIC(unsigned short, room);
    gemmTensor<false>(a, room);
}

KERNEL(gemmF16, 256, ProductArgs) {
    SHARED_DYNAMIC(unsigned short, room);
    gemmTensor<true>(a, room);
}
