// The forms in which vectors travel between nodes (kernels/dtype/wire.go), to the bit.
#include "shoal.cuh"

enum { WIRE_BF16 = 1, WIRE_INT8 = 2 };

#define WIRE_BLOCK 128
#define WIRE_BYTES (4 + WIRE_BLOCK) // of a block in WIRE_INT8: its scale, then a byte for each element

struct WireArgs {
    Mat x;               // (1, n)
    unsigned char *code; // aligned to 4
    int form, pad;
};

// Four of a thread's eight elements: a word of bytes, aligned or at the end of a short block.
__device__ __forceinline__ void putBytes(unsigned char *to, const signed char *q, int n) {
    if (n >= 4) {
        *(unsigned *)to = (unsigned)(unsigned char)q[0] | (unsigned)(unsigned char)q[1] << 8 | (unsigned)(unsigned char)q[2] << 16 | (unsigned)(unsigned char)q[3] << 24;
        return;
    }
#pragma unroll
    for (int i = 0; i < 3; i++)
        if (i < n) to[i] = (unsigned char)q[i];
}

__device__ __forceinline__ void encodeHalves(const WireArgs &a, const Runs &r, const Eight &e) {
    unsigned short *to = (unsigned short *)a.code + r.k;
    unsigned short h[8];
#pragma unroll
    for (int i = 0; i < 8; i++) h[i] = e.v[i] == e.v[i] ? toBF16(e.v[i]) : 0x7fc0;
    if (r.n == 8 && ((unsigned long long)to & 15) == 0) {
        store16(to, make_uint4(h[0] | (unsigned)h[1] << 16, h[2] | (unsigned)h[3] << 16, h[4] | (unsigned)h[5] << 16, h[6] | (unsigned)h[7] << 16));
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (i < r.n) to[i] = h[i];
}

// encodeBlock: 16 threads have a block. All threads come.
__device__ __forceinline__ void encodeBlock(const WireArgs &a, const Runs &r, const Eight &e) {
    unsigned most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) most = max(most, i < r.n ? __float_as_uint(e.v[i]) & 0x7fffffffu : 0u);
#pragma unroll
    for (int x = 8; x > 0; x >>= 1) most = max(most, __shfl_xor_sync(0xffffffffu, most, x));
    bool coded = most >= 0x0d800000u && most < 0x7f800000u; // 2^-100; infinity
    float top = coded ? __uint_as_float(most) : 1.f, inv = 127.f / top;
    unsigned char *to = a.code + r.k / WIRE_BLOCK * WIRE_BYTES;
    int k = (int)(r.k % WIRE_BLOCK);
    if (k == 0 && r.n > 0) *(unsigned *)to = coded ? __float_as_uint(top / 127.f) : most >= 0x7f800000u ? 0x7fc00000u : 0u;
    signed char q[8];
#pragma unroll
    for (int i = 0; i < 8; i++) q[i] = coded ? (signed char)(int)rintf(e.v[i] * inv) : 0;
    putBytes(to + 4 + k, q, r.n);
    putBytes(to + 8 + k, q + 4, r.n - 4);
}

KERNEL(encodeWire, 256, WireArgs) {
    Runs r = runOf(1, a.x.cols, 1);
    Eight e = get8(a.x, r.k, r.n);
    if (a.form == WIRE_BF16)
        encodeHalves(a, r, e);
    else
        encodeBlock(a, r, e);
}

KERNEL(decodeWire, 256, WireArgs) {
    Runs r = runOf(1, a.x.cols, 1);
    if (r.n == 0) return;
    Eight e;
    if (a.form == WIRE_BF16) {
        const unsigned short *from = (const unsigned short *)a.code + r.k;
        if (r.n == 8 && ((unsigned long long)from & 15) == 0) {
            uint4 u = load16<uint4>(from);
            unsigned w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
            for (int i = 0; i < 8; i++) e.v[i] = fromBF16((unsigned short)(w[i / 2] >> i % 2 * 16 & 0xffff));
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) e.v[i] = i < r.n ? fromBF16(from[i]) : 0.f;
        }
    } else {
        const unsigned char *from = a.code + r.k / WIRE_BLOCK * WIRE_BYTES;
        float scale = __uint_as_float(*(const unsigned *)from);
        from += 4 + r.k % WIRE_BLOCK;
        if (r.n == 8) {
            unsigned w[2] = {((const unsigned *)from)[0], ((const unsigned *)from)[1]};
#pragma unroll
            for (int i = 0; i < 8; i++) e.v[i] = (float)(signed char)(w[i / 4] >> i % 4 * 8 & 255) * scale;
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) e.v[i] = i < r.n ? (float)(signed char)from[i] * scale : 0.f;
        }
    }
    put8(a.x, r.k, r.n, e);
}
