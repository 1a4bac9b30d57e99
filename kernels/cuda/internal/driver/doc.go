// Package driver calls NVIDIA's driver without being linked against it.
//
// Load opens libcuda when the program runs; where there is none, the program goes on and every call answers "no device".
// So one binary serves machines with and without a GPU, and needs neither CUDA's headers nor its libraries to be built,
// only a C compiler. The types here are thin: a method is one call of the driver, an error is its number with its text.
//
// Concurrency. Load once, before anything else. The rest follows the driver's rules: a context belongs to the thread
// that made it current, so whoever uses a Context locks its goroutine to a thread.
package driver
