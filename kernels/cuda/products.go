//go:build cuda

package cuda

import (
	"math/bits"
	"os"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// LtVar names the environment variable with the path of cuBLASLt, if it is not where machines have it; "none" leaves
// products to our own kernels.
const LtVar = "SHOAL_LIBCUBLASLT"

// loadLt is the version of cuBLASLt, or why there is none.
func loadLt() (string, error) {
	path := os.Getenv(LtVar)
	if path == "none" {
		return "", errNoLt
	}
	return driver.LoadLt(path)
}

// workspaceBytes is what cuBLASLt may use for intermediate results: what NVIDIA advises for Hopper.
const workspaceBytes = 32 << 20

// openProducts starts cuBLASLt if it is there. Without it products take our own kernels.
func (d *Device) openProducts() {
	if _, err := loadLt(); err != nil {
		return
	}
	n := workspaceBytes
	if d.limit < 64*workspaceBytes {
		n = int(d.limit / 64)
	}
	at, err := d.takeMemory(n)
	if err != nil {
		return
	}
	if d.launch.lt, err = driver.OpenProducts(driver.Ptr(at), n); err != nil {
		d.putMemory(at)
	}
}

// ltType is cuBLASLt's number of the type that both operands of a product have or get, and whether there is one.
//
// Products of bfloat16 numbers are exact in float32, so operands that are both BF16 stay so also when the product is to be computed in F32.
func ltType(a, b *kernels.Tensor, compute dtype.Type) (dtype.Type, int8, bool) {
	switch {
	case b.Q != nil:
		return 0, 0, false
	case compute == dtype.F16:
		return dtype.F16, driver.RealF16, true
	case compute == dtype.BF16 || a.Type == dtype.BF16 && b.Type == dtype.BF16:
		return dtype.BF16, driver.RealBF16, true
	case a.Type == dtype.F32 && b.Type == dtype.F32:
		return dtype.F32, driver.RealF32, true
	}
	return 0, 0, false
}

// product appends a command's product to the list as cuBLASLt computes it; false if it does not.
func (l *launcher) product(c *kernels.Cmd) (bool, error) {
	out, a, b := &c.T[0], c.T[1], c.T[2]
	typ, number, ok := ltType(&a, &b, dtype.Type(c.I[3]))
	if l.lt == nil || !ok || out.Len() == 0 || a.Len() == 0 || out.Type == dtype.BF16 && typ != dtype.BF16 {
		return false, nil
	}
	add, err := c.T[3], error(nil)
	if !add.None() && out.Type == dtype.BF16 { // cuBLASLt wants a bias of the result's type, which is off by as little as the result
		err = l.asType(typ, &a, &b, &add)
	} else {
		err = l.asType(typ, &a, &b)
	}
	if err != nil {
		return false, err
	}
	bias := matOf(&add)
	x, y, z := matOf(&a), matOf(&b), matOf(out)
	ta, tb, k := c.I[0] != 0, c.I[1] != 0, a.Cols
	if ta {
		k = a.Rows
	}
	// A row-major matrix is its transpose by columns: c = a·b is cᵀ = bᵀ·aᵀ.
	of := driver.Product{M: out.Cols, N: out.Rows, K: k, LdA: leading(&b), LdB: leading(&a), LdD: leading(out), TransA: tb, TransB: ta,
		Bias: bias.p != 0, Type: number, TypeD: driver.RealF32, AlignA: alignment(&b, y.p), AlignB: alignment(&a, x.p), AlignD: alignment(out, z.p)}
	if out.Type == dtype.BF16 {
		of.TypeD = driver.RealBF16
	}
	plan := l.lt.Plan(of)
	if plan == nil {
		return false, nil
	}
	if !l.list.AddProduct(plan, driver.Ptr(y.p), driver.Ptr(x.p), driver.Ptr(z.p), driver.Ptr(bias.p), c.I[2] != 0) {
		l.flush()
		l.list.AddProduct(plan, driver.Ptr(y.p), driver.Ptr(x.p), driver.Ptr(z.p), driver.Ptr(bias.p), c.I[2] != 0)
	}
	l.names = append(l.names, kProduct)
	l.products++
	return true, nil
}

// asType makes operands of the type where they are not, in scratch memory.
func (l *launcher) asType(typ dtype.Type, ts ...*kernels.Tensor) error {
	n := 0
	for _, t := range ts {
		if t.Type != typ {
			n += rounded(typ.Bytes(t.Len()))
		}
	}
	if n == 0 {
		return nil
	}
	at, err := l.scratch(n)
	if err != nil {
		return err
	}
	for i, t := range ts {
		if t.Type == typ {
			continue
		}
		buf := &l.temporary[i]
		*buf = kernels.Buffer{Addr: uintptr(at), Size: typ.Bytes(t.Len())}
		at += uint64(rounded(buf.Size))
		to := kernels.Tensor{Buf: buf, Rows: t.Rows, Cols: t.Cols, Ld: t.Cols, Type: typ}
		l.convert = kernels.Cmd{Op: kernels.OpCopy, T: [16]kernels.Tensor{to, *t}}
		if err := l.ops[kernels.OpCopy](l, &l.convert); err != nil {
			return err
		}
		*t = to
	}
	return nil
}

// leading is the distance of rows; a matrix of one row has any.
func leading(t *kernels.Tensor) int { return max(t.Ld, t.Cols) }

// alignment is the power of two, up to 256, that an address and the bytes of a row are multiples of.
func alignment(t *kernels.Tensor, p uint64) uint16 {
	return uint16(1) << min(8, bits.TrailingZeros64(p|uint64(t.Type.Bytes(leading(t)))|256))
}
