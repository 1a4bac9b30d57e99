// Blocks, fibers and what they wait for.
#include "block.h"

#include <atomic>
#include <condition_variable>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace emu {

thread_local Fiber *self;
thread_local Block *block;

static const size_t stackBytes = 128 << 10, pageBytes = 4096, staticBytes = 48 << 10, sharedMost = 227 << 10;
static const int maxThreads = 1024;

// Lists of what the kernels declare; written while the library is loaded, sites also later.
static Kernel *firstKernel;
static std::atomic<Site *> firstSite;
Kernel *kernels() { return firstKernel; }
Site *sites() { return firstSite; }

Kernel::Kernel(const char *name, size_t argBytes, unsigned maxThreads, void (*run)(const void *))
    : name(name), argBytes(argBytes), maxThreads(maxThreads), run(run), next(firstKernel), dynamicMax(48 << 10) {
    firstKernel = this;
}

// What tests switched off: "file:line".
static std::mutex siteMutex;
static const std::string offSite = getenv("SHOAL_EMU_SKIP") ? getenv("SHOAL_EMU_SKIP") : "";

Site::Site(const char *file, int line, const char *what) : file(file), line(line), what(what), off(false), reached(false) {
    const char *base = strrchr(file, '/');
    this->file = base ? base + 1 : file;
    std::lock_guard<std::mutex> l(siteMutex);
    off = offSite == std::string(this->file) + ":" + std::to_string(line);
    next = firstSite;
    firstSite = this;
}

#define SHOW extern "C" __attribute__((visibility("default")))

SHOW void shoalEmuForget(uint64_t) {
    for (Site *s = firstSite; s; s = s->next) s->reached = false;
}

// shoalEmuSites writes the sites that ran since shoalEmuForget, a line each, and returns how many bytes they need.
SHOW size_t shoalEmuSites(char *out, size_t bytes) {
    std::string text;
    for (Site *s = firstSite; s; s = s->next)
        if (s->reached) text += std::string(s->file) + ":" + std::to_string(s->line) + " " + s->what + "\n";
    if (bytes) memcpy(out, text.data(), bytes < text.size() ? bytes : text.size());
    return text.size();
}

static uint64_t firstSeed() {
    const char *e = getenv("SHOAL_EMU_SEED");
    return e ? strtoull(e, nullptr, 10) * 2 + 1 : 1;
}
static std::atomic<uint64_t> seedNow{firstSeed()};
void reseed(uint64_t seed) { seedNow = seed * 2 + 1; }
uint64_t random64() {
    uint64_t z = (seedNow += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static std::mutex errorMutex;
static std::string errorText;
static thread_local std::string errorCopy;
void setError(const std::string &text) {
    std::lock_guard<std::mutex> l(errorMutex);
    errorText = text;
}
const std::string &error() {
    std::lock_guard<std::mutex> l(errorMutex);
    return errorCopy = errorText;
}

// Pending is a warp operation that not all lanes of its mask have come to.
struct Pending {
    unsigned mask, here;
    Body body;
    void *mine[32];
};

struct Warp {
    Pending pending[32];
    int count;
    unsigned lanes; // that exist and have not ended
    int first;      // fiber of lane 0
};

struct SharedSite {
    const void *site;
    size_t offset;
};

// Machine runs blocks on one thread of the process.
struct Machine {
    Fiber *fibers;
    Warp warps[maxThreads / 32];
    char *stacks, *sharedBase, *sharedAt;
    size_t dirtyDynamic;
    int ready[maxThreads], readyCount, waiting, alive;
    Site *barrierAt;
    uint64_t rng;
    bool uneven;
    int rank[maxThreads / 32]; // of warps, where the order is uneven
    void *schedulerSP;
    SharedSite sharedSites[64];
    int sharedCount;
    sigjmp_buf escape;
    bool running;
    int result;
    char text[512];
    const Launch *launch;
    void *alternate; // signal stack

    Machine();
    void runBlock();
    void start(int threads);
    int pick();
};

static thread_local Machine *machine __attribute__((tls_model("initial-exec")));

// Fiber switch: the registers that a called function must keep, and the stack pointer.
extern "C" void emuSwitch(void **save, void *to);
extern "C" void emuEnter();
#if defined(__x86_64__)
asm(R"(
.text
.globl emuSwitch
.hidden emuSwitch
.type emuSwitch,@function
emuSwitch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static const int savedWords = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl emuSwitch
.hidden emuSwitch
.type emuSwitch,%function
emuSwitch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#else
#error "the emulator has no fiber switch for this processor"
#endif

static void toScheduler() {
    Machine *m = machine;
    emuSwitch(&self->sp, m->schedulerSP);
}

extern "C" void emuEnter() {
    Machine *m = machine;
    m->launch->kernel->run(m->launch->args);
    Fiber *f = self;
    if (f->pending) fail("thread %d ended with %d asynchronous copies in flight", f->index, f->pending);
    f->ended = true;
    f->warp->lanes &= ~(1u << f->lane);
    m->alive--;
    toScheduler();
    abort();
}

static char *map(size_t bytes) {
    char *p = (char *)mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}

Machine::Machine() {
    fibers = new Fiber[maxThreads];
    size_t slot = stackBytes + pageBytes;
    stacks = map(slot * maxThreads);
    for (int i = 0; i < maxThreads; i++) mprotect(stacks + i * slot, pageBytes, PROT_NONE);
    sharedBase = map(sharedMost + 2 * pageBytes);
    mprotect(sharedBase + sharedMost + pageBytes, pageBytes, PROT_NONE);
    memset(sharedBase, 0xff, sharedMost + pageBytes);
    sharedAt = sharedBase;
    dirtyDynamic = 0;
    alternate = map(64 << 10);
    running = false;
    rng = random64();
}

void Machine::start(int threads) {
    readyCount = alive = threads;
    waiting = 0;
    barrierAt = nullptr;
    size_t slot = stackBytes + pageBytes;
    Dim d = launch->dim;
    for (int i = 0; i < threads; i++) {
        Fiber &f = fibers[i];
        unsigned u = (unsigned)i;
        f.tid = {u % d.x, u / d.x % d.y, u / d.x / d.y};
        f.index = i;
        f.lane = i % 32;
        f.warp = &warps[i / 32];
        f.ended = false;
        f.pending = f.group = 0;
        char *top = stacks + (i + 1) * slot;
#if defined(__x86_64__)
        void **sp = (void **)top - 2; // at emuEnter the stack is as after a call
        *sp = (void *)emuEnter;
        f.sp = sp - savedWords;
#else
        void **sp = (void **)(top - 160);
        sp[11] = (void *)emuEnter; // x30
        f.sp = sp;
#endif
        ready[i] = i;
    }
    for (int w = 0; w * 32 < threads; w++) {
        warps[w].count = 0;
        warps[w].lanes = ~0u;
        warps[w].first = w * 32;
    }
}

// pick is the place of a ready fiber, any.
int Machine::pick() {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (int)((rng >> 33) * (uint64_t)readyCount >> 31);
}

// runBlock lets fibers run, each until it waits, in random order.
void Machine::runBlock() {
    Dim d = launch->dim;
    int threads = (int)(d.x * d.y * d.z);
    start(threads);
    memset(sharedBase, 0xff, (size_t)(sharedAt - sharedBase)); // what the block before has used
    memset(sharedBase + sharedMost + pageBytes - dirtyDynamic, 0xff, dirtyDynamic);
    // The dynamic part ends at the guard page; the static part lies below it.
    size_t dynamic = dirtyDynamic = (launch->dynamicBytes + 15) & ~size_t(15);
    block->dynamicBytes = launch->dynamicBytes;
    block->dynamic = sharedBase + sharedMost + pageBytes - dynamic;
    sharedAt = sharedBase;
    sharedCount = 0;
    readyCount = 1 << 20; // pick draws a number below
    uneven = pick() & 1;
    for (int &r : rank) r = pick();
    readyCount = threads;
    while (alive > 0) {
        if (readyCount == 0) {
            if (waiting < alive) {
                for (int i = 0; i < threads; i++)
                    if (Warp *w = fibers[i].warp; !fibers[i].ended && w->count)
                        fail("deadlock: a warp operation waits for lanes %08x of warp %d, lanes %08x came", w->pending[0].mask,
                             i / 32, w->pending[0].here);
                fail("deadlock");
            }
            if (alive < threads)
                fail("%s:%d: %d threads wait at a barrier, %d have ended", barrierAt->file, barrierAt->line, waiting, threads - alive);
            waiting = 0;
            for (int i = 0; i < threads; i++) ready[readyCount++] = i;
        }
        int k = pick();
        if (uneven) // the best of a few: warps of high rank get far ahead of those of low rank
            for (int i = 0; i < 7; i++)
                if (int o = pick(); rank[ready[o] / 32] > rank[ready[k] / 32]) k = o;
        Fiber *f = &fibers[ready[k]];
        ready[k] = ready[--readyCount];
        self = f;
        emuSwitch(&schedulerSP, f->sp);
    }
}

void barrier(Site *s) {
    s->reached = true;
    if (s->off) return;
    Machine *m = machine;
    m->barrierAt = s;
    m->waiting++;
    toScheduler();
}

static void nothing(void *const[32], unsigned) {}
void syncwarp(Site *s, unsigned mask) {
    s->reached = true;
    if (!s->off) together(mask, nothing, s);
}

void together(unsigned mask, Body body, void *mine) {
    Machine *m = machine;
    Fiber *f = self;
    Warp *w = f->warp;
    unsigned me = 1u << f->lane;
    if (!(mask & me)) fail("lane %d takes part in a warp operation whose mask %08x leaves it out", f->lane, mask);
    if (mask & ~w->lanes) fail("a warp operation with mask %08x waits for lanes that have ended: alive are %08x", mask, w->lanes);
    Pending *p = nullptr;
    for (int i = 0; i < w->count; i++) {
        Pending &q = w->pending[i];
        if (q.mask == mask && !(q.here & me)) {
            p = &q;
            break;
        }
    }
    if (!p) {
        p = &w->pending[w->count++];
        *p = Pending{mask, 0, body, {}};
    }
    if (p->body != body) fail("the lanes of a warp are at different warp operations");
    p->here |= me;
    p->mine[f->lane] = mine;
    if (p->here != mask) {
        toScheduler();
        return;
    }
    Pending done = *p;
    *p = w->pending[--w->count];
    done.body(done.mine, mask);
    for (int l = 0; l < 32; l++)
        if (mask & ~me & 1u << l) m->ready[m->readyCount++] = w->first + l;
}

void copyAsync(void *dst, const void *src, int bytes, int zero) {
    Fiber *f = self;
    if (f->pending == 128) fail("more than 128 asynchronous copies in flight in thread %d", f->index);
    if (((uintptr_t)dst | (uintptr_t)src) % (unsigned)(bytes + zero)) fail("asynchronous copy of %d bytes between %p and %p is misaligned", bytes + zero, dst, src);
    f->copies[f->pending++] = Copy{dst, src, bytes, zero, f->group};
    memset(dst, 0xff, (size_t)(bytes + zero)); // may be overwritten from now on, and is as late as the wait
}

void commitCopies() { self->group++; }

void waitCopies(Site *s, int newest) {
    s->reached = true;
    if (s->off) return;
    Fiber *f = self;
    int kept = 0;
    for (int i = 0; i < f->pending; i++) {
        Copy &c = f->copies[i];
        if (c.group < f->group - newest) {
            memcpy(c.dst, c.src, (size_t)c.bytes);
            memset((char *)c.dst + c.bytes, 0, (size_t)c.zero);
        } else {
            f->copies[kept++] = c;
        }
    }
    f->pending = kept;
}

void *shared(const void *site, size_t bytes, size_t align) {
    Machine *m = machine;
    for (int i = 0; i < m->sharedCount; i++)
        if (m->sharedSites[i].site == site) return m->sharedBase + m->sharedSites[i].offset;
    size_t at = ((size_t)(m->sharedAt - m->sharedBase) + align - 1) & ~(align - 1);
    if (at + bytes > staticBytes) fail("%zu bytes of static shared memory, 48 KiB are the most", at + bytes);
    if (m->sharedBase + at + bytes > block->dynamic) fail("static and dynamic shared memory are more than a multiprocessor has");
    if (m->sharedCount == 64) fail("more than 64 shared arrays");
    m->sharedSites[m->sharedCount++] = SharedSite{site, at};
    m->sharedAt = m->sharedBase + at + bytes;
    return m->sharedBase + at;
}

void *sharedDynamic(size_t) {
    if (block->dynamicBytes == 0) fail("the kernel uses dynamic shared memory, the launch gives none");
    return block->dynamic;
}

// escape ends the block from inside a fiber or a signal handler.
[[noreturn]] static void escape(int result) {
    machine->result = result;
    siglongjmp(machine->escape, 1);
}

void fail(const char *format, ...) {
    Machine *m = machine;
    va_list list;
    va_start(list, format);
    vsnprintf(m->text, sizeof m->text, format, list);
    va_end(list);
    escape(launchFailed);
}

static struct sigaction oldSegv, oldBus;

static void onSignal(int number, siginfo_t *info, void *context) {
    if (machine && machine->running) {
        snprintf(machine->text, sizeof machine->text, "thread %d of block (%u,%u,%u) used address %p, which is nobody's", self->index,
                 block->id.x, block->id.y, block->id.z, info->si_addr);
        escape(illegalAddress);
    }
    struct sigaction &old = number == SIGSEGV ? oldSegv : oldBus;
    if (old.sa_flags & SA_SIGINFO)
        old.sa_sigaction(number, info, context);
    else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
        old.sa_handler(number);
    else {
        signal(number, SIG_DFL);
        raise(number);
    }
}

static void catchFaults() {
    struct sigaction a = {};
    a.sa_sigaction = onSignal;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &a, &oldSegv);
    sigaction(SIGBUS, &a, &oldBus);
}

// Pool is the threads that run blocks.
struct Pool {
    std::mutex mutex;
    std::condition_variable wake, done;
    const Launch *launch = nullptr;
    uint64_t turn = 0;
    int busy = 0, size = 0;
    std::atomic<uint64_t> next{0};
    std::atomic<int> result{0};
    uint64_t blocks = 0, stride = 1, offset = 0;

    Pool() {
        catchFaults();
        size = (int)std::thread::hardware_concurrency();
        if (size > 8) size = 8;
        if (size < 1) size = 1;
        for (int i = 0; i < size; i++) std::thread([this] { work(); }).detach();
    }

    void work() {
        sigset_t all; // signals of the process are for others; a fault is delivered all the same
        sigfillset(&all);
        sigdelset(&all, SIGSEGV);
        sigdelset(&all, SIGBUS);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
        Machine *m = machine = new Machine;
        stack_t alternate = {};
        alternate.ss_sp = m->alternate;
        alternate.ss_size = 64 << 10;
        sigaltstack(&alternate, nullptr);
        Block b;
        block = &b;
        uint64_t seen = 0;
        for (;;) {
            std::unique_lock<std::mutex> l(mutex);
            wake.wait(l, [&] { return turn != seen; });
            seen = turn;
            m->launch = launch;
            l.unlock();
            part(m);
            l.lock();
            if (--busy == 0) done.notify_all();
        }
    }

    // part runs blocks until none is left.
    void part(Machine *m) {
        const Launch &l = *m->launch;
        block->dim = l.dim;
        block->grid = l.grid;
        for (;;) {
            uint64_t i = next++;
            if (i >= blocks || result.load()) return;
            i = (i * stride + offset) % blocks;
            block->id = {(unsigned)(i % l.grid.x), (unsigned)(i / l.grid.x % l.grid.y), (unsigned)(i / l.grid.x / l.grid.y)};
            if (sigsetjmp(m->escape, 1) == 0) {
                m->running = true;
                m->runBlock();
                m->running = false;
                continue;
            }
            m->running = false;
            int none = 0;
            if (result.compare_exchange_strong(none, m->result)) setError(std::string("kernel ") + l.kernel->name + ": " + m->text);
            return;
        }
    }

    int run(const Launch &l) {
        std::unique_lock<std::mutex> lock(mutex);
        blocks = (uint64_t)l.grid.x * l.grid.y * l.grid.z;
        offset = random64() % blocks;
        stride = 1 + random64() % blocks;
        while (std::gcd(stride, blocks) != 1) stride++;
        launch = &l;
        next = 0;
        result = 0;
        busy = size;
        turn++;
        wake.notify_all();
        done.wait(lock, [&] { return busy == 0; });
        return result;
    }
};

int run(const Launch &l) {
    static Pool *pool = new Pool; // its threads live as long as the process
    return pool->run(l);
}

} // namespace emu
