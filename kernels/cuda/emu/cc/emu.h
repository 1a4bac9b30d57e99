// The emulator's half of the kernels' language: what CUDA C++ gives a kernel, on the CPU.
//
// A block is run by one thread of the machine. Each of its CUDA threads is a fiber that runs until it must wait for
// others (a barrier, a warp operation, the end), then another one is picked at random from a seed, in half of the blocks with warps that run far ahead of others. So a kernel that
// forgets to wait reads what is not there yet, in some order, for some seed. Shared memory starts as NaN for every block,
// asynchronous copies arrive as late as the kernel allows, and a wrong address is an error of the launch.
//
// Not modelled: time, caches, bank conflicts, weak memory order between threads that do not synchronise.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emu {

struct Dim {
    unsigned x, y, z;
};

// Copy is an asynchronous copy that was issued and has not been waited for.
struct Copy {
    void *dst;
    const void *src;
    int bytes, zero; // zeros behind the bytes
    int group;
};

struct Warp;

struct Fiber {
    void *sp;
    Dim tid;
    int index, lane;
    Warp *warp;
    bool ended;
    Copy copies[128];
    int pending, group; // copies in flight; groups committed
};

struct Block {
    Dim id, dim, grid;
    char *dynamic; // shared memory that the launch asked for
    unsigned dynamicBytes;
};

extern thread_local Fiber *self __attribute__((tls_model("initial-exec")));
extern thread_local Block *block __attribute__((tls_model("initial-exec")));

// Site is a place in a kernel that synchronises. A test can switch one off, to see that its absence is noticed.
struct Site {
    const char *file;
    int line;
    const char *what;
    bool off, reached;
    Site *next;
    Site(const char *file, int line, const char *what);
};

void barrier(Site *s);
void syncwarp(Site *s, unsigned mask);
void waitCopies(Site *s, int newest);
void commitCopies();
void copyAsync(void *dst, const void *src, int bytes, int zero);
void *shared(const void *site, size_t bytes, size_t align);
void *sharedDynamic(size_t align);
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Body computes a warp operation for all its lanes at once: mine[l] is what lane l brought, or null.
typedef void (*Body)(void *const mine[32], unsigned mask);
void together(unsigned mask, Body body, void *mine);

// Kernel is one that a module can be asked for.
struct Kernel {
    const char *name;
    size_t argBytes;
    unsigned maxThreads;
    void (*run)(const void *args);
    Kernel *next;
    unsigned dynamicMax; // set by cuFuncSetAttribute
    Kernel(const char *name, size_t argBytes, unsigned maxThreads, void (*run)(const void *args));
};

} // namespace emu

#define SHOAL_SITE(what)                                                                                                           \
    ([]() -> emu::Site * {                                                                                                         \
        static emu::Site site(__FILE__, __LINE__, what);                                                                           \
        return &site;                                                                                                              \
    }())

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict

#define threadIdx (emu::self->tid)
#define blockIdx (emu::block->id)
#define blockDim (emu::block->dim)
#define gridDim (emu::block->grid)
#define warpSize 32

#define __syncthreads() emu::barrier(SHOAL_SITE("__syncthreads"))
namespace emu {
inline unsigned lanes(unsigned mask = 0xffffffffu) { return mask; }
} // namespace emu
#define __syncwarp(...) emu::syncwarp(SHOAL_SITE("__syncwarp"), emu::lanes(__VA_ARGS__))

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) double2 { double x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

template <class To, class From> inline To emuBits(From v) {
    static_assert(sizeof(To) == sizeof(From), "");
    To out;
    memcpy(&out, &v, sizeof out);
    return out;
}
inline unsigned __float_as_uint(float v) { return emuBits<unsigned>(v); }
inline int __float_as_int(float v) { return emuBits<int>(v); }
inline float __uint_as_float(unsigned v) { return emuBits<float>(v); }
inline float __int_as_float(int v) { return emuBits<float>(v); }
inline long long __double_as_longlong(double v) { return emuBits<long long>(v); }
inline double __longlong_as_double(long long v) { return emuBits<double>(v); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
template <class T> inline T __ldg(const T *p) { return *p; }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }
inline long long min(long long a, int b) { return min<long long>(a, b); }
inline long long min(int a, long long b) { return min<long long>(a, b); }
inline long long max(long long a, int b) { return max<long long>(a, b); }
inline long long max(int a, long long b) { return max<long long>(a, b); }
inline void __trap() { emu::fail("the kernel trapped"); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

// Integer atomics alone: floating point ones have no fixed order and no kernel of ours uses them.
inline int atomicAdd(int *p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
inline unsigned atomicAdd(unsigned *p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
inline int atomicOr(int *p, int v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
inline int atomicExch(int *p, int v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
inline int atomicCAS(int *p, int was, int v) {
    __atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return was;
}
inline int atomicMax(int *p, int v) {
    int was = __atomic_load_n(p, __ATOMIC_SEQ_CST);
    while (was < v && !__atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return was;
}

// Warp operations. Lanes bring a value and where from; the last to come hands everybody the result.
namespace emu {
template <class T> struct Shuffle {
    T value, result;
    int from;
};
template <class T> void shuffle(void *const mine[32], unsigned) {
    for (int l = 0; l < 32; l++) {
        if (auto *s = (Shuffle<T> *)mine[l]) {
            auto *from = (Shuffle<T> *)mine[s->from & 31];
            if (!from) fail("a shuffle reads lane %d, which is not in its mask", s->from);
            s->result = from->value;
        }
    }
}
template <class T> T shuffled(unsigned mask, T v, int from) {
    Shuffle<T> s{v, v, from};
    together(mask, shuffle<T>, &s);
    return s.result;
}
struct Vote {
    bool yes;
    unsigned ballot;
};
inline void vote(void *const mine[32], unsigned) {
    unsigned b = 0;
    for (int l = 0; l < 32; l++)
        if (mine[l] && ((Vote *)mine[l])->yes) b |= 1u << l;
    for (int l = 0; l < 32; l++)
        if (mine[l]) ((Vote *)mine[l])->ballot = b;
}
} // namespace emu

template <class T> inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    int base = emu::self->lane & ~(width - 1);
    return emu::shuffled(mask, v, base + (lane & (width - 1)));
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32) {
    (void)width;
    return emu::shuffled(mask, v, emu::self->lane ^ x);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, int by, int width = 32) {
    int l = emu::self->lane, to = l + by;
    return emu::shuffled(mask, v, (to ^ l) & ~(width - 1) ? l : to);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, int by, int width = 32) {
    int l = emu::self->lane, to = l - by;
    return emu::shuffled(mask, v, to < (l & ~(width - 1)) ? l : to);
}
inline unsigned __ballot_sync(unsigned mask, int yes) {
    emu::Vote v{yes != 0, 0};
    emu::together(mask, emu::vote, &v);
    return v.ballot;
}
inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) == mask; }

// How a kernel is written: see src/README.md.
#define KERNEL(name, threads, Args)                                                                                                \
    static void name(const Args &a);                                                                                               \
    static emu::Kernel emuKernel_##name(#name, sizeof(Args), threads, [](const void *p) { name(*(const Args *)p); });              \
    static void name(const Args &a)
#define KERNEL_ROOMY KERNEL
#define SHARED(type, name, count)                                                                                                  \
    type *name = (type *)emu::shared(                                                                                              \
        []() -> const void * {                                                                                                     \
            static char site;                                                                                                      \
            return &site;                                                                                                          \
        }(),                                                                                                                       \
        sizeof(type) * (count), 16)
#define SHARED_DYNAMIC(type, name) type *name = (type *)emu::sharedDynamic(16)
