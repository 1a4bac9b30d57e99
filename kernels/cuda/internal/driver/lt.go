//go:build cuda

package driver

/*
#include "lt.h"
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

var (
	ltOnce    sync.Once
	ltVersion string
	ltFailed  error
)

// LoadLt opens cuBLASLt at path, or where machines have it if path is empty, and returns its version. A process has one:
// later calls return what the first did.
func LoadLt(path string) (string, error) {
	ltOnce.Do(func() {
		p := C.CString(path)
		defer C.free(unsafe.Pointer(p))
		if why := C.shoal_lt_load(p); why != nil {
			ltFailed = fmt.Errorf("%s", C.GoString(why))
			return
		}
		v := int(C.shoal_lt_version())
		if ltVersion = fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100); v < 100000 { // as versions below 10 count
			ltVersion = fmt.Sprintf("%d.%d.%d", v/1000, v/100%10, v%100)
		}
	})
	return ltVersion, ltFailed
}

// Types of elements as CUDA numbers them.
const (
	RealF32  = 0
	RealF16  = 2
	RealBF16 = 14
)

// Product is what a plan is for: d (M, N) = op(a) (M, K) · op(b) (K, N), all stored by columns. Ld are elements between
// columns; Align are bytes that addresses and columns are multiples of. Sums are float32.
type Product struct {
	M, N, K                int
	LdA, LdB, LdD          int
	TransA, TransB, Bias   bool
	Type, TypeD            int8
	AlignA, AlignB, AlignD uint16
}

// Products is cuBLASLt on a context, with its plans.
type Products struct {
	handle unsafe.Pointer
	space  Ptr
	bytes  int
	plans  map[Product]*Plan
}

// Plan is a product that can be added to Launches.
type Plan struct{ raw *C.Plan }

// OpenProducts starts cuBLASLt on the context of this thread, with workspace in device memory.
func OpenProducts(space Ptr, bytes int) (*Products, error) {
	p := &Products{space: space, bytes: bytes, plans: map[Product]*Plan{}}
	if r := C.shoal_lt_create(&p.handle); r != 0 {
		return nil, fmt.Errorf("cublasLtCreate: status %d", int(r))
	}
	return p, nil
}

// Plan is the plan for a product, nil if the library knows no way to compute it. Plans are kept.
func (p *Products) Plan(of Product) *Plan {
	plan, ok := p.plans[of]
	if !ok {
		plan = p.plan(of)
		p.plans[of] = plan
	}
	return plan
}

func (p *Products) plan(of Product) *Plan {
	raw := (*C.Plan)(C.calloc(1, C.sizeof_Plan))
	raw.handle, raw.space, raw.spaceBytes = p.handle, C.CUdeviceptr(p.space), C.size_t(p.bytes)
	c := C.Product{m: C.uint64_t(of.M), n: C.uint64_t(of.N), k: C.uint64_t(of.K), lda: C.int64_t(of.LdA), ldb: C.int64_t(of.LdB),
		ldd: C.int64_t(of.LdD), transA: truth(of.TransA), transB: truth(of.TransB), bias: truth(of.Bias), _type: C.int(of.Type), typeD: C.int(of.TypeD),
		alignA: C.uint32_t(of.AlignA), alignB: C.uint32_t(of.AlignB), alignD: C.uint32_t(of.AlignD)}
	if C.shoal_lt_plan(raw, &c) != 0 {
		C.free(unsafe.Pointer(raw))
		return nil
	}
	return &Plan{raw}
}

func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// Close gives plans and library up.
func (p *Products) Close() error {
	for _, plan := range p.plans {
		if plan != nil {
			C.shoal_lt_drop(plan.raw)
			C.free(unsafe.Pointer(plan.raw))
		}
	}
	p.plans = nil
	if r := C.shoal_lt_destroy(p.handle); r != 0 {
		return fmt.Errorf("cublasLtDestroy: status %d", int(r))
	}
	return nil
}

// AddProduct appends a product to the list, d = a·b, or d += a·b; bias is 0 without one. False: the list is full.
func (l *Launches) AddProduct(plan *Plan, a, b, d, bias Ptr, add bool) bool {
	if l.n == len(l.list) {
		return false
	}
	c := &l.list[l.n]
	*c = C.Launch{plan: plan.raw, add: truth(add)}
	c.operand = [4]C.CUdeviceptr{C.CUdeviceptr(a), C.CUdeviceptr(b), C.CUdeviceptr(d), C.CUdeviceptr(bias)}
	l.n++
	return true
}
