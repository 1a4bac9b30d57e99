// Sums in a fixed order: of columns, of squares, and the places of largest elements.
#include "shoal.cuh"

// What is summed over rows.
enum { SUM_X = 0, SUM_RMS = 1, SUM_LAYER = 2 };

struct ColumnArgs {
    Mat x, dy, stat;
    float *parts; // (gridDim.y, cols)
    int kind, step; // rows of a part
};

// columnParts sums columns over the rows of a part: x; x·r·dy; (x-mean)·r·dy.
KERNEL(columnParts, 128, ColumnArgs) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= a.x.cols) return;
    int lo = blockIdx.y * a.step, hi = min(lo + a.step, a.x.rows);
    float s = 0;
    for (long long i = lo; i < hi; i++) {
        float x = get(a.x, i * a.x.ld + c);
        if (a.kind == SUM_X) {
            s += x;
            continue;
        }
        float d = get(a.dy, i * a.dy.ld + c);
        if (a.kind == SUM_RMS)
            s = fmaf(x * get(a.stat, i * a.stat.ld), d, s);
        else
            s = fmaf((x - get(a.stat, i * a.stat.ld)) * get(a.stat, i * a.stat.ld + 1), d, s);
    }
    a.parts[(long long)blockIdx.y * a.x.cols + c] = s;
}

struct FoldArgs {
    const float *parts;
    float *dst;
    int cols, rows, add, pad;
};

KERNEL(columnFold, 128, FoldArgs) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= a.cols) return;
    float s = a.add ? a.dst[c] : 0.f;
    for (int i = 0; i < a.rows; i++) s += a.parts[(long long)i * a.cols + c];
    a.dst[c] = s;
}

// Squares is one tensor whose squares are summed.
struct Squares {
    const float *p;
    long long ld;
    int rows, cols;
};

struct SquaresArgs {
    Squares x[64];
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
