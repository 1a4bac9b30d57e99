// Package worker keeps a device in a process of its own. A fault of a GPU poisons everything in the process that uses it;
// here that is a child, and what goes down with it is the device's memory and the jobs that had something there, not the
// program that started it. The next allocation starts a new child.
//
// Device is the parent's end and looks like any device: commands are data, so they are sent as they are. Serve is the
// child's end, over a real device. Between them run frames (frame.go) over two pipes, in order: commands, writes and
// frees are sent and forgotten, and what goes wrong with them is the answer to the next call that waits: Alloc, Read,
// Sync. Buffers are numbers; a number is never used twice, so a tensor of a child that died is noticed.
//
// Concurrency. A Device is safe for concurrent use. Serve runs until its input ends.
package worker
