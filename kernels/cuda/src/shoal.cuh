// What every kernel file includes: operands, loads and stores of mixed types, sums over warps and blocks.
#pragma once
#include "prim.cuh"

// Element types, numbered as in kernels/dtype.
enum { F32 = 0, BF16 = 1, F16 = 2, I8 = 3, NF4 = 4, I32 = 5, F64 = 6 };

// Mat is a tensor as a kernel sees it: kernels/cuda/args.go fills it. A p of null is an operand left out.
struct Mat {
    char *p;      // first element
    long long ld; // elements between rows
    int rows, cols;
    int type;
    int flat; // 1: packed, so rows*cols elements follow each other
};

// at is the place of element (i, j), counted in elements from p.
__device__ __forceinline__ long long at(const Mat &m, long long i, int j) { return i * m.ld + j; }

// get is element k from p, as float32. The type is the same for all threads of a launch, so that the branch costs little.
__device__ __forceinline__ float get(const Mat &m, long long k) {
    if (m.type == BF16) return fromBF16(((const unsigned short *)m.p)[k]);
    return ((const float *)m.p)[k];
}

// put stores element k from p; a bfloat16 is rounded once.
__device__ __forceinline__ void put(const Mat &m, long long k, float v) {
    if (m.type == BF16)
        ((unsigned short *)m.p)[k] = toBF16(v);
    else
        ((float *)m.p)[k] = v;
}

// Eight is a run of elements that one thread works on: 16 bytes of bfloat16, 32 of float32.
struct Eight {
    float v[8];
};

// whole tells whether a run of eight at k can be moved in pieces of 16 bytes.
__device__ __forceinline__ bool whole(const Mat &m, long long k, int n) {
    unsigned long long bytes = m.type == BF16 ? 2 : 4;
    return n == 8 && (((unsigned long long)m.p + (unsigned long long)k * bytes) & 15) == 0;
}

// getSome and putSome move runs that are short or not aligned.
static __device__ NOINLINE Eight getSome(const Mat &m, long long k, int n) {
    Eight e;
#pragma unroll
    for (int i = 0; i < 8; i++) e.v[i] = i < n ? get(m, k + i) : 0.f;
    return e;
}

static __device__ NOINLINE void putSome(const Mat &m, long long k, int n, Eight e) {
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (i < n) put(m, k + i, e.v[i]);
}

// wholeRows tells the same of a run of columns in all rows.
__device__ __forceinline__ bool wholeRows(const Mat &m, int c, int n) {
    unsigned long long bytes = m.type == BF16 ? 2 : 4;
    return whole(m, c, n) && ((unsigned long long)m.ld * bytes & 15) == 0;
}

// load8 reads a whole run.
__device__ __forceinline__ Eight load8(const Mat &m, long long k) {
    Eight e;
    if (m.type == BF16) {
        uint4 u = load16<uint4>(m.p + 2 * k);
        unsigned w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            e.v[2 * i] = fromBF16((unsigned short)(w[i] & 0xffff));
            e.v[2 * i + 1] = fromBF16((unsigned short)(w[i] >> 16));
        }
        return e;
    }
    float4 a = load16<float4>(m.p + 4 * k), b = load16<float4>(m.p + 4 * k + 16);
    e.v[0] = a.x, e.v[1] = a.y, e.v[2] = a.z, e.v[3] = a.w, e.v[4] = b.x, e.v[5] = b.y, e.v[6] = b.z, e.v[7] = b.w;
    return e;
}

// get8 reads n <= 8 elements from k on; the rest of the run is 0.
__device__ __forceinline__ Eight get8(const Mat &m, long long k, int n) {
    return whole(m, k, n) ? load8(m, k) : getSome(m, k, n);
}

// put8 stores the first n <= 8 elements of a run from k on.
__device__ __forceinline__ void put8(const Mat &m, long long k, int n, const Eight &e) {
    if (!whole(m, k, n)) {
        putSome(m, k, n, e);
        return;
    }
    if (m.type == BF16) {
        unsigned w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = toBF16(e.v[2 * i]) | (unsigned)toBF16(e.v[2 * i + 1]) << 16;
        store16(m.p + 2 * k, make_uint4(w[0], w[1], w[2], w[3]));
        return;
    }
    store16(m.p + 4 * k, make_float4(e.v[0], e.v[1], e.v[2], e.v[3]));
    store16(m.p + 4 * k + 16, make_float4(e.v[4], e.v[5], e.v[6], e.v[7]));
}

// Runs cuts operands of one shape into runs of eight, a thread's work: over one flat row if all are packed, else row by
// row. A launch has a thread for each run, see elementwise in kernels/cuda/launch.go.
struct Runs {
    long long row, k; // the run's row and its first element there
    int n;            // elements, 0: nothing to do
};

__device__ __forceinline__ Runs runOf(int rows, int cols, int flat) {
    long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    Runs r;
    if (flat) {
        long long all = (long long)rows * cols;
        r.row = 0;
        r.k = t * 8;
        r.n = r.k >= all ? 0 : (int)(all - r.k < 8 ? all - r.k : 8);
        return r;
    }
    int per = (cols + 7) / 8;
    r.row = t / per;
    r.k = (t - r.row * per) * 8;
    r.n = r.row >= rows ? 0 : (int)(cols - r.k < 8 ? cols - r.k : 8);
    return r;
}

// place is where the run starts in an operand.
__device__ __forceinline__ long long place(const Mat &m, const Runs &r) { return r.row * m.ld + r.k; }

// report says in the device's fault word, which lies in host memory, that the data of an operation made no sense.
__device__ __forceinline__ void report(int *fault, int op) { *(volatile int *)fault = op; }

// warpSum adds in a fixed tree; every lane has the sum.
template <class T> __device__ __forceinline__ T warpSum(T v) {
#pragma unroll
    for (int x = 16; x > 0; x >>= 1) v += __shfl_xor_sync(0xffffffffu, v, x);
    return v;
}

__device__ __forceinline__ float warpMax(float v) {
#pragma unroll
    for (int x = 16; x > 0; x >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, x));
    return v;
}

// blockSum adds over a block of up to 1024 threads in a fixed order; every thread has the sum. room is shared memory of
// 32 elements. All threads of the block call it.
template <class T> __device__ __forceinline__ T blockSum(T v, T *room) {
    int warps = (blockDim.x + 31) / 32, w = threadIdx.x / 32, l = threadIdx.x % 32;
    v = warpSum(v);
    if (l == 0) room[w] = v;
    __syncthreads();
    v = warpSum(l < warps ? room[l] : T(0));
    __syncthreads(); // room may be used again
    return v;
}
