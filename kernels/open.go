package kernels

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// backends is filled by the init functions of the backends that are compiled in, and only read afterwards.
var backends struct {
	sync.Mutex
	open map[string]func(option string) (Device, error)
}

// Register makes a backend available to Open. It is meant for the init function of a backend.
func Register(name string, open func(option string) (Device, error)) {
	backends.Lock()
	defer backends.Unlock()
	if backends.open == nil {
		backends.open = map[string]func(string) (Device, error){}
	}
	if backends.open[name] != nil {
		panic("kernels: backend " + name + " registered twice")
	}
	backends.open[name] = open
}

// Open opens a device by name: a backend's name, and after a colon what the backend makes of it. "cpu" takes the best
// kernels of this machine; "cpu:generic", "cpu:avx2", "cpu:avx512" and "cpu:neon" force one family; "cuda:1" is the second GPU.
// The program must import the backend's package.
func Open(name string) (Device, error) {
	kind, option, _ := strings.Cut(name, ":")
	backends.Lock()
	open, have := backends.open[kind], make([]string, 0, len(backends.open))
	for k := range backends.open {
		have = append(have, k)
	}
	backends.Unlock()
	if open == nil {
		slices.Sort(have)
		return nil, fmt.Errorf("no device %q: this build has %s", name, strings.Join(have, ", "))
	}
	return open(option)
}
