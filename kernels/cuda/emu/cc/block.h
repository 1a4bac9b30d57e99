// Running a launch: what the driver asks of the emulator.
#pragma once
#include "emu.h"
#include <functional>
#include <string>

namespace emu {

struct Launch {
    Kernel *kernel;
    Dim grid, dim;
    unsigned dynamicBytes;
    const void *args;
};

// run runs a launch to its end. It returns 0, or the CUresult of what went wrong, and then error() says it.
int run(const Launch &l);
const std::string &error();
void setError(const std::string &text);
uint64_t random64();
void reseed(uint64_t seed);
Kernel *kernels();
Site *sites();

// enqueue puts work on a stream of the driver.
int enqueue(void *stream, std::function<int()> run);

enum { illegalAddress = 700, launchFailed = 719 };

} // namespace emu
