// Kernels with faults that the emulator must notice, and the right ones beside them.
#include "shoal.cuh"

// reverse turns a run of 64 numbers around, through shared memory. bug 1: no barrier.
struct PlantArgs {
    const float *in;
    float *out;
    int bug, n;
};

KERNEL(plantReverse, 64, PlantArgs) {
    SHARED(float, room, 64);
    room[threadIdx.x] = a.in[threadIdx.x];
    if (a.bug != 1) __syncthreads();
    a.out[threadIdx.x] = room[63 - threadIdx.x];
}

// Two rounds over the same shared memory. bug 1: no barrier before it is written again.
KERNEL(plantRounds, 64, PlantArgs) {
    SHARED(float, room, 64);
    float v = a.in[threadIdx.x];
    for (int i = 0; i < 3; i++) {
        room[threadIdx.x] = v;
        __syncthreads();
        v = room[(threadIdx.x + 1) % 64];
        if (a.bug != 1) __syncthreads();
    }
    a.out[threadIdx.x] = v;
}

// Within a warp. bug 1: lanes of a warp do not run in step.
KERNEL(plantWarp, 32, PlantArgs) {
    SHARED(float, room, 32);
    room[threadIdx.x] = a.in[threadIdx.x];
    if (a.bug != 1) __syncwarp();
    a.out[threadIdx.x] = room[31 - threadIdx.x];
}

// An asynchronous copy. bug 1: nobody waits for it. 2: each thread waits for its own, not for the others. 3: the wait
// leaves one group in flight. 4: the thread ends first.
KERNEL(plantCopy, 64, PlantArgs) {
    SHARED(float, room, 256);
    copy16(room + 4 * threadIdx.x, a.in + 4 * threadIdx.x);
    commitCopies();
    if (a.bug == 4) return;
    if (a.bug == 3) waitCopies(1);
    if (a.bug == 0 || a.bug == 2) waitCopies(0);
    if (a.bug != 2) __syncthreads();
    a.out[threadIdx.x] = room[255 - threadIdx.x];
    if (a.bug) waitCopies(0);
}

// A double buffer that is filled while it is still read. bug 1: the barrier before the next fill is missing.
KERNEL(plantPipeline, 32, PlantArgs) {
    SHARED(float, room, 256);
    float s = 0;
    copy16(room + 4 * threadIdx.x, a.in + 4 * threadIdx.x);
    commitCopies();
    for (int i = 0; i < 4; i++) {
        if (i < 3) copy16(room + 128 * ((i + 1) % 2) + 4 * threadIdx.x, a.in + 128 * (i + 1) + 4 * threadIdx.x);
        commitCopies();
        waitCopies(1);
        __syncthreads();
        for (int k = 0; k < 4; k++) s += room[128 * (i % 2) + (33 * threadIdx.x + 32 * k) % 128];
        if (a.bug != 1) __syncthreads();
    }
    a.out[threadIdx.x] = s;
}

// bug 1: a barrier that not all threads come to. 2: a warp operation without one of its lanes. 3: lanes at different
// operations. 4: a thread that has ended.
KERNEL(plantDiverge, 64, PlantArgs) {
    float v = a.in[threadIdx.x];
    if (a.bug == 1 && threadIdx.x < 7) return;
    if (a.bug == 4 && threadIdx.x == 40) return;
    __syncthreads();
    if (a.bug == 2 && threadIdx.x == 33) v = 0;
    else if (a.bug == 3 && threadIdx.x == 33) __syncwarp();
    else v = __shfl_xor_sync(a.bug == 2 ? 0xfffffffdu : 0xffffffffu, v, 2);
    a.out[threadIdx.x] = v;
}

// bug 1: reads behind its memory. 2: writes behind it. 3: reads shared memory that nobody wrote. 4: a wide load that is
// not aligned. 5: null.
KERNEL(plantAddress, 64, PlantArgs) {
    SHARED(float, room, 64);
    float v = a.in[threadIdx.x];
    if (a.bug == 1) v += a.in[a.n + threadIdx.x];
    if (a.bug == 2) a.out[a.n + threadIdx.x] = v;
    if (a.bug == 3) v += room[threadIdx.x];
    if (a.bug == 4) v += load16<float4>(a.in + threadIdx.x).x;
    if (a.bug == 5) v += *(volatile float *)nullptr;
    a.out[threadIdx.x] = v;
}
