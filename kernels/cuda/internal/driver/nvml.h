// NVIDIA's management library, as far as shoal asks it: what a GPU draws and how warm it is. Found when the program runs.
#pragma once

// shoal_nvml_load returns 0, the library's status, or -1 if it is not there.
int shoal_nvml_load(const char *path);
int shoal_nvml_read(const char *bus, unsigned *milliwatts, unsigned *celsius);
