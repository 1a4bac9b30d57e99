// Sums in a fixed order: of columns, of squares, and the places of largest elements.
#include "shoal.cuh"

// What is summed over rows.
enum { SUM_X = 0, SUM_RMS = 1, SUM_LAYER = 2 };

struct ColumnArgs {
    Mat x, dy, stat;
    float *parts; // (gridDim.y, cols)
    int kind, step; // rows of a part
};

// addRow adds a run of one row to a thread's sums.
__device__ __forceinline__ void addRow(const ColumnArgs &a, long long row, const Eight &x, const Eight &d, Eight &s) {
    if (a.kind == SUM_X) {
#pragma unroll
        for (int i = 0; i < 8; i++) s.v[i] += x.v[i];
        return;
    }
    float mean = 0.f, r = get(a.stat, row * a.stat.ld);
    if (a.kind == SUM_LAYER) mean = r, r = get(a.stat, row * a.stat.ld + 1);
#pragma unroll
    for (int i = 0; i < 8; i++) s.v[i] = fmaf((x.v[i] - mean) * r, d.v[i], s.v[i]);
}

// columnParts sums columns over the rows of a part, in rising row: x; x·r·dy; (x-mean)·r·dy. A thread has eight columns.
KERNEL(columnParts, 128, ColumnArgs) {
    int c = (blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (c >= a.x.cols) return;
    int n = min(8, a.x.cols - c), lo = blockIdx.y * a.step, hi = min(lo + a.step, a.x.rows);
    bool dy = a.kind != SUM_X, fast = wholeRows(a.x, c, n) && (!dy || wholeRows(a.dy, c, n));
    Eight s = {}, d = {};
    if (fast) {
#pragma unroll 4
        for (long long i = lo; i < hi; i++) {
            Eight x = load8(a.x, i * a.x.ld + c);
            if (dy) d = load8(a.dy, i * a.dy.ld + c);
            addRow(a, i, x, d, s);
        }
    } else {
        for (long long i = lo; i < hi; i++) {
            Eight x = getSome(a.x, i * a.x.ld + c, n);
            if (dy) d = getSome(a.dy, i * a.dy.ld + c, n);
            addRow(a, i, x, d, s);
        }
    }
    float *to = a.parts + (long long)blockIdx.y * a.x.cols + c;
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (i < n) to[i] = s.v[i];
}

struct FoldArgs {
    const float *parts;
    float *dst;
    int cols, rows, add, pad;
};

// columnFold adds the parts of 32 columns: each of eight warps every eighth, then the warps in order.
KERNEL(columnFold, 256, FoldArgs) {
    SHARED(float, room, 256);
    int c = blockIdx.x * 32 + threadIdx.x % 32, warp = threadIdx.x / 32;
    float s = 0;
#pragma unroll 8
    for (int i = warp; i < a.rows; i += 8) s += c < a.cols ? a.parts[(long long)i * a.cols + c] : 0.f;
    room[threadIdx.x] = s;
    __syncthreads();
    if (warp > 0 || c >= a.cols) return;
    s = a.add ? a.dst[c] : 0.f;
#pragma unroll
    for (int w = 0; w < 8; w++) s += room[32 * w + threadIdx.x];
    a.dst[c] = s;
}

// Squares is one tensor whose squares are summed.
struct Squares {
    const float *p;
    long long ld;
    int rows, cols;
};

struct SquaresArgs {
    Squares x[160]; // as many as arguments may have
    double *parts; // of a block each
};

// sumSquares: element i, counted row by row, belongs to lane i mod 16; a lane is one chain, so a block has a tensor.
KERNEL(sumSquares, 32, SquaresArgs) {
    const Squares &x = a.x[blockIdx.x];
    int lane = threadIdx.x;
    double s = 0;
    if (lane < 16) {
        long long all = (long long)x.rows * x.cols, i = lane;
        if (x.ld == x.cols || x.rows == 1) {
            for (; i + 7 * 16 < all; i += 8 * 16) { // loads ahead of the chain
                float v[8];
#pragma unroll
                for (int u = 0; u < 8; u++) v[u] = x.p[i + 16 * u];
#pragma unroll
                for (int u = 0; u < 8; u++) s += (double)v[u] * (double)v[u];
            }
            for (; i < all; i += 16) s += (double)x.p[i] * (double)x.p[i];
        } else {
            long long row = i / x.cols, col = i - row * x.cols;
            for (; i < all; i += 16) {
                double v = x.p[row * x.ld + col];
                s += v * v;
                for (col += 16; col >= x.cols; col -= x.cols) row++;
            }
        }
    }
#pragma unroll
    for (int by = 8; by > 0; by >>= 1) s += __shfl_down_sync(0xffffffffu, s, by);
    if (lane == 0) a.parts[blockIdx.x] = s;
}

struct SquaresFoldArgs {
    const double *parts;
    double *dst;
    int n, add;
};

KERNEL(squaresFold, 32, SquaresFoldArgs) {
    if (threadIdx.x) return;
    double s = a.parts[0];
    if (a.add) s += a.dst[0];
    for (int i = 1; i < a.n; i++) s = a.parts[i] + s;
    a.dst[0] = s;
}

struct ArgMaxArgs {
    Mat x;
    int *dst;
    long long dstLd;
};

// argMax: the first of equals; NaN never wins, and a row of nothing else has 0.
KERNEL(argMax, 32, ArgMaxArgs) {
    long long row = blockIdx.x;
    float best = __int_as_float(0xff800000);
    int at = 0x7fffffff;
    for (int c = threadIdx.x; c < a.x.cols; c += 32) {
        float v = get(a.x, row * a.x.ld + c);
        if (v > best) best = v, at = c;
    }
#pragma unroll
    for (int x = 16; x > 0; x >>= 1) {
        float v = __shfl_xor_sync(0xffffffffu, best, x);
        int c = __shfl_xor_sync(0xffffffffu, at, x);
        if (v > best || (v == best && c < at)) best = v, at = c;
    }
    if (threadIdx.x == 0) a.dst[row * a.dstLd] = at == 0x7fffffff ? 0 : at;
}
