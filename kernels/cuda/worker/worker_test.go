package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cpu"
	"github.com/seed-7b27c88a/shoal/kernels/cuda"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
	"github.com/seed-7b27c88a/shoal/kernels/kerneltest"
)

// childVar makes this test's program a worker over the processor; "fault" makes Sync end as a GPU's fault does.
const childVar = "SHOAL_TEST_WORKER"

func TestMain(m *testing.M) {
	how := os.Getenv(childVar)
	if how == "" {
		os.Exit(m.Run())
	}
	dev, err := cpu.Open("")
	if err == nil && how == "fault" {
		err = Serve(faulty{dev}, os.Stdin, os.Stdout)
	} else if err == nil {
		err = Serve(dev, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type faulty struct{ kernels.Device }

func (faulty) Sync(context.Context) error { return fmt.Errorf("%w: at address 7", cuda.ErrFault) }

func start(t *testing.T, how string) *Device {
	t.Helper()
	d, err := Start(func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVar+"="+how)
		return cmd
	}, cuda.Caps{Watts: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestConformance: the device in the child gives what it gives here. A few ops show every form of operand.
func TestConformance(t *testing.T) {
	d := start(t, "cpu")
	if i := d.Info(); i.Name != "cpu" || i.Workers < 1 || i.Kernel == "" {
		t.Errorf("info %+v", i)
	}
	for _, name := range []string{"MatMulQuantized", "Frozen", "Elementwise", "AttentionCache", "Head", "SumSq", "Rows"} {
		t.Run(name, func(t *testing.T) { kerneltest.RunApart(t, d, name) })
	}
	if used := d.Info().InUse; used != 0 {
		t.Errorf("%d bytes are in use after all was freed", used)
	}
}

// TestErrors: what a command does wrong is told by the next call that waits, once.
func TestErrors(t *testing.T) {
	d := start(t, "cpu")
	x, err := kernels.Alloc(d, dtype.F32, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := kernels.Alloc(d, dtype.I32, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := kernels.NewStream(d)
	s.UploadI32(ids, []int32{0, 7, 1})
	s.GatherRows(x, x, ids)
	if err := s.Sync(context.Background()); err == nil || !strings.Contains(err.Error(), "GatherRows") {
		t.Errorf("a row that does not exist: %v", err)
	}
	if err := d.Sync(context.Background()); err != nil {
		t.Errorf("told twice: %v", err)
	}
	if _, err := d.Alloc(1 << 50); err == nil {
		t.Error("took a memory that no machine has")
	}
}

// TestDeath: a child that dies takes calls with it, not this process; memory of it is gone, and the next allocation
// starts another.
func TestDeath(t *testing.T) {
	for _, how := range []string{"cpu", "fault"} {
		d := start(t, how)
		x, err := kernels.Alloc(d, dtype.F32, 30, 40)
		if err != nil {
			t.Fatal(err)
		}
		if how == "cpu" {
			if err := d.child.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := d.Sync(context.Background()); !errors.Is(err, ErrLost) {
					t.Errorf("%s: waited for a dead device: %v", how, err)
				}
			})
		}
		wg.Wait()
		<-d.child.ended
		s := kernels.NewStream(d)
		s.Fill(x, 1)
		if err := s.Sync(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("%s: commands for a dead device: %v", how, err)
		} else {
			t.Log(err)
		}
		if _, err := d.Alloc(8); !errors.Is(err, ErrLost) {
			t.Errorf("%s: a device that died at once was started again at once: %v", how, err)
		}
		d.mu.Lock()
		d.began = time.Now().Add(-time.Hour)
		d.mu.Unlock()
		revived(t, d, x)
	}
}

// revived checks that a device works again, and knows nothing of old memory.
func revived(t *testing.T, d *Device, old kernels.Tensor) {
	t.Helper()
	y, err := kernels.Alloc(d, dtype.F32, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	s, got := kernels.NewStream(d), make([]float32, 4)
	s.Fill(y, 5)
	if err := s.Download(got, y); err != nil || !slices.Equal(got, []float32{5, 5, 5, 5}) {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	s.Add(old, old, old)
	if s.Flush(); !errors.Is(s.Err(), ErrLost) {
		t.Errorf("memory of another child was taken: %v", s.Err())
	}
	kernels.Free(d, old.Buf)
}
