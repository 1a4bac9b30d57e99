// A management library whose GPU is as warm as a test says.
#include <atomic>
#include <cstdint>

#define SHOW extern "C" __attribute__((visibility("default")))

static std::atomic<unsigned> milliwatts{100000}, degrees{40};

SHOW void shoalEmuWatts(uint64_t v) { milliwatts = (unsigned)v * 1000; }
SHOW void shoalEmuCelsius(uint64_t v) { degrees = (unsigned)v; }
SHOW int nvmlInit_v2() { return 0; }
SHOW int nvmlDeviceGetHandleByPciBusId_v2(const char *, void **dev) { return *dev = &milliwatts, 0; }
SHOW int nvmlDeviceGetPowerUsage(void *, unsigned *v) { return *v = milliwatts, 0; }
SHOW int nvmlDeviceGetTemperature(void *, int, unsigned *v) { return *v = degrees, 0; }
