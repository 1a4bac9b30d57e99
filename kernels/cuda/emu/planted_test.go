//go:build cuda && cudaemu

package emu_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/emu"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"
)

// bench is the emulator with the kernels of testdata, on this thread.
type bench struct {
	t      *testing.T
	ctx    *driver.Context
	module *driver.Module
	stream driver.Stream
	list   *driver.Launches
}

func newBench(t *testing.T) *bench {
	t.Helper()
	path, err := emu.Library("..", "testdata/planted.cu")
	if errors.Is(err, emu.ErrNoCompiler) {
		t.Skip(err)
	}
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	b := &bench{t: t, list: driver.NewLaunches(4, 1024)}
	t.Cleanup(b.list.Free)
	must(t, err)
	drv, err := driver.Load(path)
	must(t, err)
	dev, err := drv.Device(0)
	must(t, err)
	b.ctx, err = dev.Open()
	must(t, err)
	b.module, err = b.ctx.LoadModule("")
	must(t, err)
	b.stream, err = b.ctx.NewStream()
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plantArgs is PlantArgs of testdata/planted.cu.
type plantArgs struct {
	in, out driver.Ptr
	bug, n  int32
}

// run launches a kernel with a bug and returns what it wrote. Memory is exactly as large as needed.
func (b *bench) run(name string, threads, bug int) ([]float32, error) {
	b.t.Helper()
	const inputs = 512
	f, err := b.module.Function(name)
	must(b.t, err)
	in, err := b.ctx.Alloc(4 * inputs)
	must(b.t, err)
	out, err := b.ctx.Alloc(4 * threads)
	must(b.t, err)
	host, err := b.ctx.HostAlloc(4 * inputs)
	must(b.t, err)
	v := unsafe.Slice((*float32)(unsafe.Pointer(&host[0])), inputs)
	for i := range v {
		v[i] = float32(i*i%97) + 1
	}
	must(b.t, b.stream.Upload(in, len(host), host, len(host), 1))
	place := b.list.Add(f, [3]uint32{1, 1, 1}, threads, 0, int(unsafe.Sizeof(plantArgs{})))
	*(*plantArgs)(unsafe.Pointer(&place[0])) = plantArgs{in, out, int32(bug), inputs}
	_, err = b.list.Launch(b.stream)
	must(b.t, err)
	if err := b.stream.Sync(); err != nil {
		must(b.t, driver.Call("shoalEmuHeal", 0))
		return nil, err
	}
	must(b.t, b.stream.Download(host, out, 4*threads, 4*threads, 1))
	must(b.t, b.stream.Sync())
	must(b.t, b.ctx.Free(in))
	must(b.t, b.ctx.Free(out))
	return slices.Clone(v[:threads]), nil
}

// TestPlantedFaults: each fault is noticed, as an error of the launch or as wrong numbers, for at least one of 20 orders
// of the threads; without it every order gives the same numbers.
func TestPlantedFaults(t *testing.T) {
	b := newBench(t)
	for _, k := range []struct {
		name    string
		threads int
		bugs    int
	}{{"plantReverse", 64, 1}, {"plantRounds", 64, 1}, {"plantWarp", 32, 1}, {"plantCopy", 64, 4}, {"plantPipeline", 32, 1}, {"plantDiverge", 64, 4}, {"plantAddress", 64, 5}} {
		var right []float32
		for bug := 0; bug <= k.bugs; bug++ {
			noticed := ""
			for seed := range uint64(20) {
				must(t, driver.Call("shoalEmuSeed", seed))
				got, err := b.run(k.name, k.threads, bug)
				if right == nil {
					right = got
				}
				switch {
				case err != nil:
					noticed = err.Error()
				case !slices.EqualFunc(got, right, sameBits):
					noticed = fmt.Sprintf("wrong numbers with seed %d", seed)
				}
				if bug == 0 && noticed != "" {
					t.Fatalf("%s: %s, without a fault", k.name, noticed)
				}
			}
			if bug > 0 && noticed == "" {
				t.Errorf("%s: nobody notices fault %d", k.name, bug)
			}
			if bug > 0 {
				t.Logf("%s, fault %d: %s", k.name, bug, noticed)
			}
		}
	}
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// TestLaunchesThatMakeNoSense are refused by name before they run.
func TestLaunchesThatMakeNoSense(t *testing.T) {
	b := newBench(t)
	f, err := b.module.Function("plantWarp")
	must(t, err)
	for _, c := range []struct {
		what                    string
		threads, dynamic, bytes int
	}{
		{"wrong arguments", 32, 0, 16}, {"half a warp", 16, 0, 24}, {"more threads than it is made for", 64, 0, 24},
		{"shared memory that was not asked for", 32, 64 << 10, 24},
	} {
		b.list.Add(f, [3]uint32{1, 1, 1}, c.threads, c.dynamic, c.bytes)
		if _, err := b.list.Launch(b.stream); err == nil {
			t.Errorf("%s: launched", c.what)
		} else {
			t.Log(err)
		}
	}
	if _, err := b.module.Function("nobody"); err == nil {
		t.Error("found a kernel that does not exist")
	}
}

// TestLateStreams: what one stream writes is not there for another that does not wait for it.
func TestLateStreams(t *testing.T) {
	b := newBench(t)
	other, err := b.ctx.NewStream()
	must(t, err)
	p, err := b.ctx.Alloc(64)
	must(t, err)
	host, err := b.ctx.HostAlloc(128)
	must(t, err)
	early := 0
	for seed := range uint64(40) {
		must(t, driver.Call("shoalEmuSeed", seed))
		for i := range host {
			host[i] = 7
		}
		must(t, b.stream.Zero(p, 64))
		must(t, b.stream.Sync())
		must(t, b.stream.Upload(p, 64, host[:64], 64, 1))
		if seed%2 == 0 { // wait: then it is there for every seed
			e, err := b.ctx.NewEvent(false)
			must(t, err)
			must(t, e.Record(b.stream))
			must(t, other.Wait(e))
		}
		must(t, other.Download(host[64:], p, 64, 64, 1))
		must(t, other.Sync())
		switch {
		case host[64] == 7:
		case seed%2 == 0:
			t.Fatal("a stream went on before the event it waits for")
		default:
			early++
		}
		must(t, b.stream.Sync())
	}
	if early == 0 {
		t.Error("a stream that did not wait was never early")
	}
}
