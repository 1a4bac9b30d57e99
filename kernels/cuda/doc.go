// Package cuda is the device that NVIDIA's GPUs are: kernels written in CUDA C++ (src), machine code of them in the
// binary (fatbin), and the driver, found when the program runs (internal/driver). It is compiled with the tag cuda;
// without it the package has a device that says so.
//
// A Device turns commands into launches: ops.go has for each Op how. The launches of one Run go to the driver in one
// call, from one thread that holds the GPU's context; a second thread waits, so that waiting keeps nobody from sending.
// Three streams of the GPU carry commands, uploads and downloads, ordered by events: an upload runs beside commands that
// do not use its memory, a few bytes go with the commands themselves.
//
// Numbers. Exact operations have the bits of every other backend: nothing is fused unless fmaf is written. Products and
// attention have the tolerances of kernels/kerneltest. No float atomics anywhere: one GPU gives the same bits each time.
//
// Concurrency. A Device is safe for concurrent use. Run returns when commands are sent, not when they are done; what
// fails later is reported by the next Sync or Read. A fault of the GPU (a wrong address in a kernel) ends the device:
// all later calls return it, and only a new process can use the GPU again. See kernels/cuda/worker for that.
//
// The same sources run on the CPU (emu): go test -tags cuda,cudaemu needs a C++ compiler alone. src/README.md says how a
// kernel is written, launched and tested.
package cuda
