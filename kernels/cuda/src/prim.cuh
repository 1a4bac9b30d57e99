// The primitives of kernels: all PTX of shoal is in this file, once for the GPU and once for the emulator.
//
// Rules that make both give the same numbers: nothing is fused unless fmaf is written (nvcc -fmad=false, g++
// -ffp-contract=off), divisions and square roots are correctly rounded, denormals stay.
#pragma once

// NOINLINE is for what is rarely run: it keeps the machine code small.
#define NOINLINE __attribute__((noinline))

#ifdef SHOAL_EMULATOR
#include "emu.h"
#else

// KERNEL defines a kernel of so many threads in a block at most, whose arguments are one struct a.
#define KERNEL(name, threads, Args) extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Args a)
// KERNEL_ROOMY is one for which registers matter more than how many blocks run beside each other.
#define KERNEL_ROOMY(name, threads, Args) extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Args a)
// SHARED is an array in shared memory; SHARED_DYNAMIC is the part that the launch sizes.
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define SHARED_DYNAMIC(type, name)                                                                                                 \
    extern __shared__ __align__(16) unsigned char shoalDynamic[];                                                                  \
    type *name = reinterpret_cast<type *>(shoalDynamic)
#endif

// Conversions by bits: round to nearest, ties to even; a NaN stays one.
__device__ __forceinline__ float fromBF16(unsigned short h) { return __uint_as_float((unsigned)h << 16); }
__device__ __forceinline__ unsigned short toBF16(float f) {
    unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(u >> 16 | 0x40);
    return (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

// load16 and store16 move 16 bytes, which must be aligned to 16.
template <class T> __device__ __forceinline__ T load16(const void *p) {
#ifdef SHOAL_EMULATOR
    if ((uintptr_t)p & 15) emu::fail("load of 16 bytes at %p is misaligned", p);
#endif
    return *reinterpret_cast<const T *>(p);
}
template <class T> __device__ __forceinline__ void store16(void *p, T v) {
#ifdef SHOAL_EMULATOR
    if ((uintptr_t)p & 15) emu::fail("store of 16 bytes at %p is misaligned", p);
#endif
    *reinterpret_cast<T *>(p) = v;
}

// copy16 starts an asynchronous copy of n <= 16 bytes from global to shared memory and zeros behind them; both ends are
// aligned to 16. commitCopies closes a group; waitCopies<n> waits until all but the newest n groups have arrived for
// this thread (other threads need a barrier on top).
#ifdef SHOAL_EMULATOR
inline void copy16(void *shared, const void *global, int n = 16) { emu::copyAsync(shared, global, n, 16 - n); }
inline void commitCopies() { emu::commitCopies(); }
#define waitCopies(newest) emu::waitCopies(SHOAL_SITE("waitCopies"), newest)
#else
__device__ __forceinline__ unsigned sharedAddress(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(void *shared, const void *global, int n = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(sharedAddress(shared)), "l"(global), "r"(n) : "memory");
}
__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
#define waitCopies(newest) asm volatile("cp.async.wait_group %0;\n" ::"n"(newest) : "memory")
#endif

// loadMatrix4 reads four 8x8 matrices of 16 bit elements from shared memory: lane l gives the address of row l%8 of
// matrix l/8, and gets in r[i] the elements (l/4, 2*(l%4)) and (l/4, 2*(l%4)+1) of matrix i; with transposed, of its
// transpose.
#ifdef SHOAL_EMULATOR
namespace emu {
struct LoadMatrix {
    const unsigned short *row;
    unsigned r[4];
};
template <bool transposed> void loadMatrices(void *const mine[32], unsigned) {
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            unsigned short e[2];
            for (int k = 0; k < 2; k++) {
                int r = l / 4, c = 2 * (l % 4) + k;
                e[k] = transposed ? ((LoadMatrix *)mine[8 * i + c])->row[r] : ((LoadMatrix *)mine[8 * i + r])->row[c];
            }
            ((LoadMatrix *)mine[l])->r[i] = e[0] | (unsigned)e[1] << 16;
        }
}
} // namespace emu
template <bool transposed> inline void loadMatrix4(unsigned (&r)[4], const void *row) {
    if ((uintptr_t)row & 15) emu::fail("ldmatrix row at %p is misaligned", row);
    emu::LoadMatrix m{(const unsigned short *)row, {}};
    emu::together(0xffffffffu, emu::loadMatrices<transposed>, &m);
    for (int i = 0; i < 4; i++) r[i] = m.r[i];
}
#else
template <bool transposed> __device__ __forceinline__ void loadMatrix4(unsigned (&r)[4], const void *row) {
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(sharedAddress(row))
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(sharedAddress(row))
                     : "memory");
}
#endif

// mma is c (16,8) += a (16,16) · b (16,8), with a and b of bfloat16 or (half) binary16 and c of float32, spread over a
// warp as the PTX manual's m16n8k16 has it: with g = lane/4 and t = lane%4,
//   a[0] = (g, 2t..2t+1)  a[1] = (g+8, 2t..)  a[2] = (g, 2t+8..)  a[3] = (g+8, 2t+8..)
//   b[0] = (2t..2t+1, g)  b[1] = (2t+8.., g)   c[0..1] = (g, 2t..2t+1)  c[2..3] = (g+8, 2t..)
#ifdef SHOAL_EMULATOR
inline float fromF16(unsigned short h);
namespace emu {
struct Product {
    const unsigned *a, *b;
    float *c;
};
template <bool half> float element(unsigned word, int which) {
    unsigned short h = (unsigned short)(which ? word >> 16 : word);
    return half ? ::fromF16(h) : ::fromBF16(h);
}
template <bool half> void products(void *const mine[32], unsigned) {
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        Product &p = *(Product *)mine[l];
        int g = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 2; k++) a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + k] = element<half>(p.a[i], k);
        for (int i = 0; i < 2; i++)
            for (int k = 0; k < 2; k++) b[2 * t + 8 * i + k][g] = element<half>(p.b[i], k);
    }
    for (int l = 0; l < 32; l++) {
        Product &p = *(Product *)mine[l];
        int g = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + 8 * (i / 2), col = 2 * t + i % 2;
            float s = p.c[i];
            for (int k = 0; k < 16; k++) s = fmaf(a[row][k], b[k][col], s);
            p.c[i] = s;
        }
    }
}
} // namespace emu
template <bool half> inline void mma(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emu::Product p{a, b, c};
    emu::together(0xffffffffu, emu::products<half>, &p);
}
#else
template <bool half> __device__ __forceinline__ void mma(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    if (half)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// fromF16 and toF16 are binary16 by bits; what is above 65504 after rounding is infinite.
__device__ __forceinline__ float fromF16(unsigned short h) {
    unsigned sign = (unsigned)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023;
    if (exp == 31) return __uint_as_float(sign | 0x7f800000u | man << 13);
    if (exp == 0) { // man · 2⁻²⁴, which float32 has exactly
        float v = (float)man * 5.9604644775390625e-8f;
        return __uint_as_float(sign | __float_as_uint(v));
    }
    return __uint_as_float(sign | (exp + 112) << 23 | man << 13);
}
__device__ __forceinline__ unsigned short toF16(float f) {
    unsigned u = __float_as_uint(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (unsigned short)(sign | 0x7e00);
    if (a >= 0x477ff000u) return (unsigned short)(sign | 0x7c00); // 65520 and more
    if (a < 0x38800000u) { // below 2⁻¹⁴: a multiple of 2⁻²⁴, rounded by an addition
        float v = __uint_as_float(a) + 0.5f;
        return (unsigned short)(sign | (__float_as_uint(v) - 0x3f000000u));
    }
    return (unsigned short)(sign | ((a + 0xfffu + (a >> 13 & 1)) - 0x38000000u) >> 13);
}

// pack is two numbers rounded to bfloat16 or binary16, the first in the lower half.
template <bool half> __device__ __forceinline__ unsigned pack(float first, float second) {
#ifdef SHOAL_EMULATOR
    return half ? toF16(first) | (unsigned)toF16(second) << 16 : toBF16(first) | (unsigned)toBF16(second) << 16;
#else
    unsigned r;
    if (half)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(second), "f"(first));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(second), "f"(first));
    return r;
#endif
}

// exp2Fast is 2^x within two units of the last place; results below 2^-126 are 0.
__device__ __forceinline__ float exp2Fast(float x) {
#ifdef SHOAL_EMULATOR
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
#endif
}
