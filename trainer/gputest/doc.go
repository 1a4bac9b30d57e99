// Package gputest trains on the CUDA backend, on a GPU or on the emulator of one, and holds the curves to the reference
// runs. It has tests alone, for builds with the tags cuda and cudaemu.
package gputest
