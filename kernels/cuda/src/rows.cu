// Rows by number: tables, caches. Numbers come from data and are checked before anything is written.
#include "shoal.cuh"

struct CheckRowsArgs {
    const int *ids, *order; // order may be null
    long long idsLd, orderLd;
    int n, limit; // ids are in [low, limit), order in [0, n)
    int *gate;    // becomes 1 if one is not, else 0: kernels of the same command look at it and do nothing
    int *fault;   // the device's fault word
    int op, low;  // what it becomes then
};

KERNEL(checkRows, 1024, CheckRowsArgs) {
    SHARED(int, room, 32);
    int bad = 0;
    for (int i = threadIdx.x; i < a.n; i += blockDim.x) {
        int id = a.ids[i * a.idsLd];
        bad |= id < a.low || id >= a.limit;
        if (a.order) {
            int o = a.order[i * a.orderLd];
            bad |= o < 0 || o >= a.n;
        }
    }
    bad = blockSum(bad, room);
    if (threadIdx.x == 0) {
        *a.gate = bad > 0;
        if (bad) report(a.fault, a.op);
    }
}

struct MoveRowsArgs {
    Mat dst, src;
    const int *ids;
    long long idsLd;
    const int *gate;
    int scatter, pad; // dst[ids[i]] = src[i], else dst[i] = src[ids[i]]
};

KERNEL(moveRows, 256, MoveRowsArgs) {
    if (*a.gate) return;
    int rows = a.scatter ? a.src.rows : a.dst.rows;
    Runs r = runOf(rows, a.dst.cols, 0);
    if (r.n == 0) return;
    long long id = a.ids[r.row * a.idsLd], from = a.scatter ? r.row : id, to = a.scatter ? id : r.row;
    put8(a.dst, to * a.dst.ld + r.k, r.n, get8(a.src, from * a.src.ld + r.k, r.n));
}

struct ScatterArgs {
    Mat table, dy;
    const int *ids, *order;
    long long idsLd, orderLd;
    const int *gate;
    int n, pad;
};

// scatterAdd: a block has the run of one id, if its place begins one, and adds its rows in order.
KERNEL(scatterAdd, 128, ScatterArgs) {
    if (*a.gate) return;
    int i = blockIdx.x, first = a.order[i * a.orderLd];
    int id = a.ids[first * a.idsLd];
    if (i > 0 && a.ids[a.order[(i - 1) * a.orderLd] * a.idsLd] == id) return;
    for (int c = blockIdx.y * blockDim.x + threadIdx.x; c < a.dy.cols; c += gridDim.y * blockDim.x) {
        long long to = id * a.table.ld + c;
        float s = get(a.table, to);
        for (int k = i; k < a.n; k++) {
            long long from = a.order[k * a.orderLd];
            if (a.ids[from * a.idsLd] != id) break;
            s += get(a.dy, from * a.dy.ld + c);
        }
        put(a.table, to, s);
    }
}
