//go:build cuda

#include "nvml.h"
#include <dlfcn.h>
#include <stddef.h>

static int (*handle)(const char *bus, void **dev);
static int (*power)(void *dev, unsigned *milliwatts);
static int (*temperature)(void *dev, int sensor, unsigned *celsius);

int shoal_nvml_load(const char *path) {
	int (*init)(void);
	void *l = dlopen(*path ? path : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!l) return -1;
	*(void **)&init = dlsym(l, "nvmlInit_v2");
	*(void **)&handle = dlsym(l, "nvmlDeviceGetHandleByPciBusId_v2");
	*(void **)&power = dlsym(l, "nvmlDeviceGetPowerUsage");
	*(void **)&temperature = dlsym(l, "nvmlDeviceGetTemperature");
	if (!init || !handle || !power || !temperature) return -1;
	return init();
}

int shoal_nvml_read(const char *bus, unsigned *milliwatts, unsigned *celsius) {
	void *dev = NULL;
	int r = handle(bus, &dev);
	if (!r) r = power(dev, milliwatts);
	return r ? r : temperature(dev, 0, celsius);
}
