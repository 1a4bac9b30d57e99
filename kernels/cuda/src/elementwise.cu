// Element-wise operations: each thread has a run of eight elements.
#include "shoal.cuh"

struct FillArgs {
    Mat x;
    float v;
    int flat;
};

template <class T> __device__ __forceinline__ void fillRun(const FillArgs &a, const Runs &r, T v) {
    T *p = (T *)a.x.p + place(a.x, r);
    for (int i = 0; i < r.n; i++) p[i] = v;
}

KERNEL(fill, 256, FillArgs) {
    Runs r = runOf(a.x.rows, a.x.cols, a.flat);
    switch (a.x.type) {
    case F32:
    case BF16: {
        Eight e;
        for (int i = 0; i < 8; i++) e.v[i] = a.v;
        put8(a.x, place(a.x, r), r.n, e);
        break;
    }
    case F16: fillRun(a, r, toF16(a.v)); break;
    case I32: fillRun(a, r, (int)a.v); break;
    case F64: fillRun(a, r, (double)a.v); break;
    }
}

struct AddArgs {
    Mat dst, a, b;
    int flat, pad;
};

KERNEL(add, 256, AddArgs) {
    Runs r = runOf(a.dst.rows, a.dst.cols, a.flat);
    Eight x = get8(a.a, place(a.a, r), r.n), y = get8(a.b, place(a.b, r), r.n);
    for (int i = 0; i < 8; i++) x.v[i] += y.v[i];
    put8(a.dst, place(a.dst, r), r.n, x);
}

struct MulArgs {
    Mat dst, a, b;
    int flat, add, perColumn, pad; // perColumn: b is one row, used for all
};

KERNEL(mul, 256, MulArgs) {
    Runs r = runOf(a.dst.rows, a.dst.cols, a.flat);
    Eight x = get8(a.a, place(a.a, r), r.n), y = get8(a.b, a.perColumn ? r.k : place(a.b, r), r.n), d;
    if (a.add) d = get8(a.dst, place(a.dst, r), r.n);
    for (int i = 0; i < 8; i++) x.v[i] = a.add ? fmaf(x.v[i], y.v[i], d.v[i]) : x.v[i] * y.v[i];
    put8(a.dst, place(a.dst, r), r.n, x);
}

struct ScaleArgs {
    Mat dst, src;
    float f;
    int flat, add, pad;
};

KERNEL(scale, 256, ScaleArgs) {
    Runs r = runOf(a.dst.rows, a.dst.cols, a.flat);
    Eight x = get8(a.src, place(a.src, r), r.n), d;
    if (a.add) d = get8(a.dst, place(a.dst, r), r.n);
    for (int i = 0; i < 8; i++) x.v[i] = a.add ? fmaf(a.f, x.v[i], d.v[i]) : a.f * x.v[i];
    put8(a.dst, place(a.dst, r), r.n, x);
}
