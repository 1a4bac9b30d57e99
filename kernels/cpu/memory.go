package cpu

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"
)

// memory hands out zeroed blocks. Addresses are never given back to the system: a pointer left behind then reads
// zeros, and can never point into the Go heap, which the garbage collector would not forgive.
type memory struct {
	limit  int64 // bytes that may be used, 0: unknown
	capped bool  // by whoever runs the process, below what the machine has

	mu    sync.Mutex       // guards the rest
	live  map[*byte][]byte // blocks in use by their first byte; nil once closed
	spare [][]byte         // freed blocks, without pages
	used  int64            // bytes of live blocks
}

func newMemory() *memory {
	limit, capped := machineBytes()
	return &memory{limit: limit, capped: capped, live: map[*byte][]byte{}}
}

func (m *memory) alloc(n int) ([]byte, error) {
	if n < 0 {
		return nil, fmt.Errorf("allocation of %d bytes", n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live == nil {
		return nil, errors.New("the device is closed")
	}
	if m.limit > 0 && int64(n) > m.limit-m.used {
		return nil, fmt.Errorf("no memory for %d bytes more: %d of %d are in use; use a smaller batch or model", n, m.used, m.limit)
	}
	b, err := m.block(max(n, 1))
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	m.used += int64(len(b))
	m.live[&b[0]] = b
	return b[:n:max(n, 1)], nil
}

// block takes a spare block that is large enough and not twice as large, or maps a new one.
func (m *memory) block(n int) ([]byte, error) {
	for i, b := range m.spare {
		if len(b) >= n && len(b)/2 <= n {
			m.spare = slices.Delete(m.spare, i, i+1)
			return b, nil
		}
	}
	return mapBytes(n)
}

// free takes back a block of alloc. After close there is nothing to take back.
func (m *memory) free(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live == nil {
		return
	}
	whole, ok := m.live[unsafe.SliceData(b)]
	if !ok {
		panic("kernels/cpu: free of memory that is not in use")
	}
	delete(m.live, &whole[0])
	m.used -= int64(len(whole))
	if dropPages(whole) == nil { // else it is lost until the process ends
		m.spare = append(m.spare, whole)
	}
}

// close gives the pages back to the system.
func (m *memory) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, b := range m.live {
		errs = append(errs, dropPages(b))
	}
	m.live, m.spare, m.used = nil, nil, 0
	return errors.Join(errs...)
}

// machineBytes is the memory of the machine, or of its control group if that is less; 0 where neither is known.
func machineBytes() (total int64, capped bool) {
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			total = kib * 1024
		}
	}
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && (total == 0 || n < total) {
			return n, true
		}
	}
	return total, false
}

// model is what the processor calls itself.
func model() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
