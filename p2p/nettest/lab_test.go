package nettest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tool is where netlab lies: $NETLAB, else beside the checkout.
func tool(t *testing.T) string {
	t.Helper()
	if os.Getenv("SHOAL_NETLAB") == "" {
		t.Skip("needs root and netlab: run make test-net")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := os.Getenv("NETLAB")
	if path == "" {
		path = filepath.Join(root(t), "../shared/netlab/netlab")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("netlab is not here (%v); set NETLAB to its path", err)
	}
	return path
}

// root is the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above")
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal(err)
	return ""
}

// binary builds shoal once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shoal-nettest-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "shoal")
	built.Store(true)
	out, err := exec.Command("go", "build", "-o", bin, "github.com/seed-7b27c88a/shoal/cmd/shoal").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

var built atomic.Bool // binary was called

func TestMain(m *testing.M) {
	if what := os.Getenv(helper); what != "" {
		help(what)
		return
	}
	code := m.Run()
	if built.Load() {
		if bin, err := binary(); err == nil {
			os.RemoveAll(filepath.Dir(bin))
		}
	}
	os.Exit(code)
}

// lab is a network of nodes 1 to n.
type lab struct {
	t    *testing.T
	tool string
	name string
	bin  string
}

// newLab makes a laboratory for daemons.
func newLab(t *testing.T, n int, options ...string) *lab {
	t.Helper()
	tool(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l := bareLab(t, n, options...)
	l.bin = bin
	return l
}

// bareLab makes a laboratory with "netlab up" and its options, and removes it at the end of the test.
func bareLab(t *testing.T, n int, options ...string) *lab {
	t.Helper()
	l := &lab{t: t, tool: tool(t), name: "sh" + strconv.Itoa(os.Getpid()%100000)}
	t.Cleanup(func() { l.netlab("down") })
	if out, err := l.netlab(append([]string{"up", strconv.Itoa(n), "--fresh"}, options...)...); err != nil {
		t.Fatalf("netlab up: %v\n%s", err, out)
	}
	return l
}

// command is one of netlab; without netlab, as on loopback, "exec N" runs the program itself.
func (l *lab) command(ctx context.Context, args ...string) *exec.Cmd {
	if l.tool == "" {
		return exec.CommandContext(ctx, args[2], args[3:]...)
	}
	c := exec.CommandContext(ctx, l.tool, args...)
	c.Env = append(os.Environ(), "NETLAB_NAME="+l.name)
	return c
}

func (l *lab) netlab(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := l.command(ctx, args...).CombinedOutput()
	return string(out), err
}

// daemon is a node of the laboratory that runs shoal.
type daemon struct {
	l    *lab
	at   int // number of the node
	home string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs a daemon on a node with a home of its own; it does not wait.
func (l *lab) start(at int, args ...string) *daemon {
	l.t.Helper()
	return l.startIn(at, l.t.TempDir(), args...)
}

// startIn is start in a home that may be there already.
func (l *lab) startIn(at int, home string, args ...string) *daemon {
	l.t.Helper()
	d := &daemon{l: l, at: at, home: home}
	d.run(args...)
	l.t.Cleanup(func() {
		d.stop()
		if l.t.Failed() {
			b, _ := os.ReadFile(d.log)
			l.t.Logf("log of node %d:\n%s", at, b[max(0, len(b)-6000):])
		}
	})
	return d
}

func (d *daemon) run(args ...string) {
	d.l.t.Helper()
	d.log = filepath.Join(d.home, "log")
	f, err := os.Create(d.log)
	if err != nil {
		d.l.t.Fatal(err)
	}
	defer f.Close()
	d.cmd = d.l.command(context.Background(), append([]string{"exec", strconv.Itoa(d.at), d.l.bin, "--home", d.home, "daemon", "--log-level", "debug"}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = f, f
	if err := d.cmd.Start(); err != nil {
		d.l.t.Fatal(err)
	}
	d.done = make(chan struct{})
	go func(c *exec.Cmd, done chan struct{}) { c.Wait(); close(done) }(d.cmd, d.done)
}

func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		d.cmd.Process.Kill()
		<-d.done
	}
}

// shoal runs a verb on the daemon's node and home.
func (d *daemon) shoal(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := d.l.command(ctx, append([]string{"exec", strconv.Itoa(d.at), d.l.bin, "--home", d.home}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("shoal %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

type status struct {
	ID           string   `json:"id"`
	Addresses    []string `json:"addresses"`
	Peers        int      `json:"peers"`
	Relayed      int      `json:"relayed"`
	Reachability struct {
		State   string   `json:"state"`
		NAT     string   `json:"nat"`
		Relays  []string `json:"relays"`
		Verdict string   `json:"verdict"`
	} `json:"reachability"`
}

func (d *daemon) status() (s status, err error) {
	out, err := d.shoal(10*time.Second, "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// up waits until the daemon answers.
func (d *daemon) up() status {
	d.l.t.Helper()
	var s status
	d.l.eventually(30*time.Second, "the daemon answers", func() (err error) { s, err = d.status(); return err })
	return s
}

// addr is an address of the daemon on the laboratory's network.
func (d *daemon) addr() string {
	d.l.t.Helper()
	for _, a := range d.up().Addresses {
		if strings.HasPrefix(a, "/ip4/44.77.") && strings.Contains(a, "/tcp/") {
			return a
		}
	}
	d.l.t.Fatal("no address")
	return ""
}

// path is how the daemon is connected to a peer: direct, relayed or, not at all, empty.
func (d *daemon) path(peer string) (string, error) {
	out, err := d.shoal(10*time.Second, "peers", "--json")
	for line := range strings.Lines(out) {
		var p struct{ ID, Path string }
		if json.Unmarshal([]byte(line), &p) == nil && p.ID == peer {
			return p.Path, err
		}
	}
	return "", err
}

// attempts repeats a measurement that a busy machine may spoil: what a bar promises holds when one of three reaches it.
func attempts(t *testing.T, measure func() error) {
	t.Helper()
	const most = 3
	for i := 1; ; i++ {
		err := measure()
		switch {
		case err == nil:
			return
		case i == most:
			t.Fatalf("%v, three times in a row (load %.1f on %d processors)", err, load(), runtime.NumCPU())
		}
		t.Logf("%v; once more", err)
	}
}

// load is how many processes wanted to run in the last minute; 0: unknown.
func load() (n float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		fmt.Sscan(string(b), &n)
	}
	return n
}

// eventually polls: the daemons are other processes and tell nothing by themselves.
func (l *lab) eventually(limit time.Duration, what string, f func() error) time.Duration {
	l.t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			l.t.Fatalf("after %v not yet: %s: %v", limit, what, err)
		}
		<-tick.C
	}
}

func (l *lab) connects(limit time.Duration, a, b *daemon, path string) time.Duration {
	l.t.Helper()
	id := b.up().ID
	return l.eventually(limit, fmt.Sprintf("nodes %d and %d are connected, %s", a.at, b.at, path), func() error {
		got, err := a.path(id)
		if err == nil && got != path {
			err = fmt.Errorf("path %q", got)
		}
		return err
	})
}
