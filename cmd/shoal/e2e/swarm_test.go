package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary builds shoal once for all tests of the package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shoal-e2e-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "shoal")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/seed-7b27c88a/shoal/cmd/shoal").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

func shoalBinary(t *testing.T) string {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// daemon is one node: a process with a home of its own.
type daemon struct {
	t    *testing.T
	bin  string
	home string
	args []string
	cmd  *exec.Cmd
	log  *logFile
	done chan struct{} // closed when the process ended
}

// newDaemon makes a home and starts a node on it. The home's log is printed when the test fails.
func newDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	return newDaemonIn(t, t.TempDir(), args...)
}

// newDaemonIn starts a node on a home that may be there already.
func newDaemonIn(t *testing.T, home string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, bin: shoalBinary(t), home: home, args: args, log: newLogFile(t)}
	d.start()
	t.Cleanup(func() {
		if t.Failed() {
			out, err := d.output(5*time.Second, "job", "logs", lastJob(t, d))
			t.Logf("job log of %s: %v\n%s", filepath.Base(d.home), err, lastBytes(out, 4000))

		}
		d.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(d.home), d.log.tail(8000))
		}
	})
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	os.Remove(filepath.Join(d.home, "api"))
	args := append([]string{"--home", d.home, "daemon",
		"--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
		"--api-addr", "127.0.0.1:0", "--no-mdns"}, d.args...)
	d.cmd = exec.Command(d.bin, args...)
	d.cmd.Stdout, d.cmd.Stderr = d.log.f, d.log.f
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan struct{})
	go func(c *exec.Cmd, done chan struct{}) { c.Wait(); close(done) }(d.cmd, d.done)
	eventually(d.t, 20*time.Second, "the daemon answers", func() error {
		select {
		case <-d.done:
			d.t.Fatalf("the daemon ended at start:\n%s", d.log.tail(4000))
		default:
		}
		_, err := d.status()
		return err
	})
}

type status struct {
	ID        string   `json:"id"`
	Addresses []string `json:"addresses"`
	Device    string   `json:"device"`
}

func (d *daemon) status() (status, error) {
	var s status
	out, err := d.output(10*time.Second, "status", "--json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("status --json printed %q: %w", out, err)
	}
	return s, nil
}

// addr is a multiaddr that others can dial.
func (d *daemon) addr() string {
	d.t.Helper()
	s, err := d.status()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, a := range s.Addresses {
		if strings.Contains(a, "/tcp/") {
			return a
		}
	}
	d.t.Fatalf("no TCP address in %v", s.Addresses)
	return ""
}

// output runs a verb against this daemon and returns its standard output.
func (d *daemon) output(limit time.Duration, args ...string) (string, error) {
	return run(limit, d.bin, append([]string{"--home", d.home}, args...)...)
}

func (d *daemon) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// kill ends the process at once, as a power cut would.
func (d *daemon) kill() {
	if d.cmd.Process != nil {
		d.cmd.Process.Signal(syscall.SIGKILL)
		<-d.done
	}
}

func run(limit time.Duration, bin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, bin, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return stdout.String(), fmt.Errorf("shoal %s: %w: %s", strings.Join(args, " "), err, lastBytes(stderr.String(), 2000))
	}
	return stdout.String(), nil
}

// eventually polls f until it returns nil. Processes tell nothing when their state changes; the bound is generous and a
// pass takes no longer than the thing waited for.
func eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("after %v not yet: %s: %v", limit, what, err)
		}
	}
}

type logFile struct{ f *os.File }

func newLogFile(t *testing.T) *logFile {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &logFile{f}
}

func (l *logFile) tail(n int) string {
	b, _ := os.ReadFile(l.f.Name())
	return lastBytes(string(b), n)
}

func lastBytes(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
