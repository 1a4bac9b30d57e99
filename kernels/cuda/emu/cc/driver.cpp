// A libcuda whose device is the emulator: the functions of the driver that shoal calls.
//
// What is put on a stream waits there until somebody asks for it: copies and kernels run as late as the program's own
// synchronisation allows, streams in random order. So a buffer that is used again too early, or an event that nobody
// waits for, shows as wrong data.
#include "block.h"

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <vector>

using namespace emu;

typedef int CUresult;
typedef uint64_t CUdeviceptr;
enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, NOT_FOUND = 500, NOT_READY = 600, UNSUPPORTED = 801 };

struct Event {
    uint64_t recorded = 0, reached = 0;
};

struct Work {
    std::function<int()> run;
    Event *waits = nullptr; // not before this event has reached its count
    uint64_t count = 0;
};

struct Stream {
    std::deque<Work> queue;
};

static std::mutex mutex;
static std::map<uintptr_t, size_t> allocations; // by address: bytes
static std::map<uintptr_t, std::pair<void *, size_t>> mappings;
static std::vector<Stream *> streams;
static int sticky; // after a fault every call fails, as on a GPU
static bool empty; // launches do nothing: to time what is around them
static size_t memoryBytes = size_t(4) << 30, usedBytes;
static bool before; // guard the start of the next allocation, not its end

// inside reports whether device memory [p, p+n) is allocated.
static bool inside(CUdeviceptr p, size_t n) {
    auto it = allocations.upper_bound(p);
    if (it == allocations.begin()) return false;
    --it;
    return p + n <= it->first + it->second;
}

// runnable tells whether the head of a stream may run.
static bool runnable(Stream *s) { return !s->queue.empty() && (!s->queue.front().waits || s->queue.front().waits->reached >= s->queue.front().count); }

// step runs the head of a random stream that can go on, false if none can.
static bool step() {
    std::vector<Stream *> can;
    for (Stream *s : streams)
        if (runnable(s)) can.push_back(s);
    if (can.empty()) return false;
    Stream *s = can[random64() % can.size()];
    Work w = std::move(s->queue.front());
    s->queue.pop_front();
    if (w.run && !sticky) sticky = w.run();
    return true;
}

template <class Done> static CUresult until(Done done) {
    while (!done()) {
        if (sticky) return sticky;
        if (!step()) {
            setError("streams wait for each other");
            return sticky = launchFailed;
        }
    }
    return sticky;
}

static CUresult put(void *stream, std::function<int()> run) {
    if (sticky) return sticky;
    if (!stream) return setError("the null stream is not for us"), INVALID;
    ((Stream *)stream)->queue.push_back(Work{std::move(run)});
    return OK;
}

int emu::enqueue(void *stream, std::function<int()> run) {
    std::lock_guard<std::mutex> lock(mutex);
    return put(stream, run);
}

#define API extern "C" __attribute__((visibility("default"))) CUresult
#define LOCK std::lock_guard<std::mutex> lock(mutex)

extern "C" __attribute__((visibility("default"))) void shoalEmuSeed(uint64_t seed) { reseed(seed); }
extern "C" __attribute__((visibility("default"))) void shoalEmuEmpty(uint64_t on) { empty = on; }
extern "C" __attribute__((visibility("default"))) void shoalEmuMemory(uint64_t bytes) { memoryBytes = bytes; }
// shoalEmuHeal forgets a fault, which a new process would on a GPU.
extern "C" __attribute__((visibility("default"))) void shoalEmuHeal(uint64_t) {
    LOCK;
    for (Stream *s : streams) s->queue.clear();
    sticky = 0;
}

API cuInit(unsigned) { return OK; }
API cuDriverGetVersion(int *v) { return *v = 12000, OK; }
API cuDeviceGetCount(int *n) {
    const char *e = getenv("SHOAL_EMU_DEVICES");
    return *n = e ? atoi(e) : 1, OK;
}
API cuDeviceGet(int *dev, int n) { return *dev = n, OK; }
API cuDeviceGetName(char *out, int n, int) { return strncpy(out, "shoal emulator", (size_t)n), OK; }
API cuDeviceTotalMem_v2(size_t *n, int) { return *n = memoryBytes, OK; }
API cuDeviceGetPCIBusId(char *out, int n, int dev) { return snprintf(out, (size_t)n, "0000:%02x:00.0", dev), OK; }
API cuDeviceGetAttribute(int *v, int attribute, int) {
    switch (attribute) {
    case 75: return *v = 9, OK;           // compute capability
    case 76: return *v = 0, OK;
    case 16: return *v = 4, OK;           // multiprocessors
    case 97: return *v = 227 << 10, OK;   // shared memory of a block, if asked for
    case 13: return *v = 1000000, OK;     // kHz
    default: return *v = 0, OK;
    }
}
API cuDevicePrimaryCtxRetain(void **ctx, int) {
    static char context;
    return *ctx = &context, OK;
}
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void *) { return OK; }
API cuCtxSynchronize() {
    LOCK;
    return until([] {
        for (Stream *s : streams)
            if (!s->queue.empty()) return false;
        return true;
    });
}
API cuMemGetInfo_v2(size_t *free, size_t *total) {
    LOCK;
    *total = memoryBytes;
    *free = memoryBytes - usedBytes;
    return OK;
}

API cuMemAlloc_v2(CUdeviceptr *p, size_t bytes) {
    LOCK;
    if (sticky) return sticky;
    if (bytes == 0) return INVALID;
    if (bytes > memoryBytes - usedBytes) return OUT_OF_MEMORY;
    size_t page = 4096, whole = (bytes + page - 1) / page * page;
    char *base = (char *)mmap(nullptr, whole + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return OUT_OF_MEMORY;
    mprotect(base, page, PROT_NONE);
    mprotect(base + page + whole, page, PROT_NONE);
    memset(base + page, 0xff, whole);
    before = !before;
    uintptr_t at = (uintptr_t)base + page + (before ? 0 : (whole - bytes) & ~size_t(63));
    allocations[at] = bytes;
    mappings[at] = {base, whole + 2 * page};
    usedBytes += bytes;
    *p = at;
    return OK;
}
API cuMemFree_v2(CUdeviceptr p) {
    if (CUresult r = cuCtxSynchronize()) return r;
    LOCK;
    auto it = allocations.find(p);
    if (it == allocations.end()) return setError("free of memory that is not allocated"), INVALID;
    usedBytes -= it->second;
    munmap(mappings[p].first, mappings[p].second);
    allocations.erase(it);
    mappings.erase(p);
    return OK;
}
API cuMemHostAlloc(void **p, size_t bytes, unsigned) {
    *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return *p == MAP_FAILED ? OUT_OF_MEMORY : OK;
}
API cuMemFreeHost(void *) { return OK; }

// Copy2D is CUDA_MEMCPY2D.
struct Copy2D {
    size_t srcX, srcY;
    int srcType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    void *srcArray;
    size_t srcPitch, dstX, dstY;
    int dstType;
    void *dstHost;
    CUdeviceptr dstDevice;
    void *dstArray;
    size_t dstPitch, width, height;
};
API cuMemcpy2DAsync_v2(const Copy2D *c, void *stream) {
    LOCK;
    bool up = c->srcType == 1, down = c->dstType == 1;
    size_t src = c->srcPitch * (c->height - 1) + c->width, dst = c->dstPitch * (c->height - 1) + c->width;
    if (c->width == 0 || c->height == 0 || c->srcPitch < c->width || c->dstPitch < c->width) return setError("copy of an impossible shape"), INVALID;
    if (!up && !inside(c->srcDevice, src)) return setError("copy from outside of device memory"), INVALID;
    if (!down && !inside(c->dstDevice, dst)) return setError("copy to outside of device memory"), INVALID;
    Copy2D k = *c;
    return put(stream, [k, up, down] {
        const char *from = up ? (const char *)k.srcHost : (const char *)k.srcDevice;
        char *to = down ? (char *)k.dstHost : (char *)k.dstDevice;
        for (size_t i = 0; i < k.height; i++) memcpy(to + i * k.dstPitch, from + i * k.srcPitch, k.width);
        return 0;
    });
}
API cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *src, size_t n, void *stream) {
    LOCK;
    if (!inside(dst, n)) return setError("copy to outside of device memory"), INVALID;
    return put(stream, [=] { return memcpy((void *)dst, src, n), 0; });
}
API cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr src, size_t n, void *stream) {
    LOCK;
    if (!inside(src, n)) return setError("copy from outside of device memory"), INVALID;
    return put(stream, [=] { return memcpy(dst, (void *)src, n), 0; });
}
API cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr src, size_t n, void *stream) {
    LOCK;
    if (!inside(src, n) || !inside(dst, n)) return setError("copy outside of device memory"), INVALID;
    return put(stream, [=] { return memmove((void *)dst, (void *)src, n), 0; });
}
API cuMemsetD8Async(CUdeviceptr dst, unsigned char v, size_t n, void *stream) {
    LOCK;
    if (!inside(dst, n)) return setError("fill outside of device memory"), INVALID;
    return put(stream, [=] { return memset((void *)dst, v, n), 0; });
}

API cuStreamCreateWithPriority(void **s, unsigned, int) {
    LOCK;
    Stream *n = new Stream;
    streams.push_back(n);
    *s = n;
    return OK;
}
API cuStreamDestroy_v2(void *s) {
    LOCK;
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i);
    delete (Stream *)s;
    return OK;
}
API cuStreamSynchronize(void *s) {
    LOCK;
    return until([s] { return ((Stream *)s)->queue.empty(); });
}
API cuStreamWaitEvent(void *s, void *e, unsigned) {
    LOCK;
    if (sticky) return sticky;
    ((Stream *)s)->queue.push_back(Work{nullptr, (Event *)e, ((Event *)e)->recorded});
    return OK;
}
API cuEventCreate(void **e, unsigned) { return *e = new Event, OK; }
API cuEventDestroy_v2(void *) { return OK; } // work on streams may still name it
API cuEventRecord(void *e, void *s) {
    LOCK;
    Event *event = (Event *)e;
    uint64_t count = ++event->recorded;
    return put(s, [event, count] { return event->reached = count, 0; });
}
API cuEventSynchronize(void *e) {
    LOCK;
    return until([e] { return ((Event *)e)->reached >= ((Event *)e)->recorded; });
}
API cuEventQuery(void *e) {
    LOCK;
    if (sticky) return sticky;
    return ((Event *)e)->reached >= ((Event *)e)->recorded ? OK : NOT_READY;
}
API cuEventElapsedTime(float *ms, void *, void *) { return *ms = 0, OK; }

API cuModuleLoadData(void **m, const void *) {
    static char module;
    return *m = &module, OK;
}
API cuModuleUnload(void *) { return OK; }
API cuModuleGetFunction(void **f, void *, const char *name) {
    for (Kernel *k = kernels(); k; k = k->next)
        if (!strcmp(k->name, name)) return *f = k, OK;
    setError(std::string("no kernel ") + name);
    return NOT_FOUND;
}
API cuFuncSetAttribute(void *f, int attribute, int v) {
    if (attribute == 8) ((Kernel *)f)->dynamicMax = (unsigned)v;
    return v <= 227 << 10 ? OK : INVALID;
}
API cuFuncGetAttribute(int *v, int attribute, void *f) {
    *v = attribute == 0 ? (int)((Kernel *)f)->maxThreads : 0;
    return OK;
}

// cuLaunchKernel takes arguments as one piece of memory (CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE, END).
API cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned dynamic, void *stream,
                   void **, void **extra) {
    if (empty) return sticky;
    LOCK;
    Kernel *k = (Kernel *)f;
    std::string name = std::string("launch of ") + k->name + ": ";
    if (!extra || extra[0] != (void *)1 || extra[2] != (void *)2) return setError(name + "arguments are not one piece"), INVALID;
    size_t bytes = *(size_t *)extra[3];
    if (bytes != k->argBytes)
        return setError(name + std::to_string(bytes) + " bytes of arguments, it takes " + std::to_string(k->argBytes)), INVALID;
    uint64_t threads = (uint64_t)bx * by * bz;
    if (threads == 0 || threads % 32 || threads > k->maxThreads)
        return setError(name + std::to_string(threads) + " threads; it takes a multiple of 32 up to " + std::to_string(k->maxThreads)), INVALID;
    if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535) return setError(name + "impossible grid"), INVALID;
    if (dynamic > k->dynamicMax) return setError(name + "more dynamic shared memory than cuFuncSetAttribute allowed"), INVALID;
    std::string args((const char *)extra[1], bytes);
    return put(stream, [=] {
        alignas(16) char copy[4096];
        memcpy(copy, args.data(), args.size());
        return run(Launch{k, {gx, gy, gz}, {bx, by, bz}, dynamic, copy});
    });
}

API cuGetErrorName(int, const char **text) { return *text = "EMULATOR", OK; }
API cuGetErrorString(int, const char **text) {
    static std::string last; // the caller copies it at once
    last = error();
    return *text = last.c_str(), OK;
}
