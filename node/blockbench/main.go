//go:build unix

// Blockbench measures how fast blocks move between two nodes on loopback, beside the same bytes over one connection of
// crypto/tls, each end a process of its own, and prints the ratio.
//
//	go run ./node/blockbench [-mib 256] [-rounds 3] [-profile DIR]
//
// Four rows: plain TLS 1.3 whose receiver drops the bytes; blocks whose receiver verifies and drops them, so the exchange
// alone; blocks from one store into another, durable when it ends; and the same from three stores, one of which
// is killed half-way, as a late joiner has it. The rows take turns and the
// best of each counts, because other work on the machine only ever slows one down. CPU is user and system time of all
// processes but the killed one. Stores lie where TMPDIR says.
//
// The tests of p2p/nettest start its senders and receivers, by -role, on a laboratory network.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// roles are what a process of the benchmark can be; the parent starts the others.
var roles = map[string]func(ctx context.Context, p params) error{
	"tls-send":       sendTLS,
	"tls-receive":    receiveTLS,
	"blocks-send":    sendBlocks,
	"blocks-receive": receiveBlocks,
}

// params are what a process is told.
type params struct {
	mib   int
	store string // memory or disk
	peer  string // addresses of the senders, for receivers; between commas

	listen  string // IP address of a sender
	home    string // of a receiver's store, which then stays
	scratch string // folder for stores
	prof    string // a file for a profile of the processor time that is counted
	steps   bool   // a receiver prints how many blocks it has, a line each time, before its times
}

func main() {
	var p params
	role := flag.String("role", "", "what this process is; for the benchmark itself")
	rounds := flag.Int("rounds", 3, "times each row is measured; the best counts")
	flag.IntVar(&p.mib, "mib", 256, "MiB to move")
	flag.StringVar(&p.store, "store", "memory", "memory or disk; for the benchmark itself")
	flag.StringVar(&p.peer, "peer", "", "address of the sender; for the benchmark itself")
	flag.StringVar(&p.listen, "listen", "127.0.0.1", "IP address of a sender; for tests")
	flag.StringVar(&p.home, "home", "", "folder of a receiver's store, which then stays; for tests")
	flag.StringVar(&p.prof, "profile", "", "folder for profiles of the processor time of each end of each row")
	flag.BoolVar(&p.steps, "steps", false, "a receiver prints how many blocks it has; for tests")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := fmt.Errorf("no role %q", *role)
	if *role == "" {
		err = compare(ctx, p, *rounds)
	} else if run := roles[*role]; run != nil {
		err = run(ctx, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "blockbench:", err)
		os.Exit(1)
	}
}

// row is one way to move the bytes.
type row struct {
	name, transport, store string
	dying                  int // senders besides the first, of whom the last is killed half-way
	best                   sample
}

// sample is one measurement.
type sample struct{ wall, cpu time.Duration }

func compare(ctx context.Context, p params, rounds int) error {
	rows := []*row{
		{name: "crypto/tls", transport: "tls"},
		{name: "blocks, verified", transport: "blocks", store: "memory"},
		{name: "blocks, store to store", transport: "blocks", store: "disk"},
		{name: "blocks, three stores to store, one killed", transport: "blocks", store: "disk", dying: 2},
	}
	dir, err := os.MkdirTemp("", "shoal-blockbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // a killed sender leaves its store
	p.scratch = dir
	for range rounds {
		for _, r := range rows {
			p.store, p.steps = r.store, r.dying > 0
			s, err := measure(ctx, r.transport, r.dying, p)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			if r.best.wall == 0 || s.wall < r.best.wall {
				r.best.wall = s.wall
			}
			if r.best.cpu == 0 || s.cpu < r.best.cpu {
				r.best.cpu = s.cpu
			}
		}
	}
	fmt.Println("| transport | MB/s | / crypto/tls | CPU s/GB |\n| --- | --- | --- | --- |")
	bytes := float64(p.mib << 20)
	for _, r := range rows {
		fmt.Printf("| %s | %.0f | %.2f | %.2f |\n", r.name, bytes/1e6/r.best.wall.Seconds(),
			rows[0].best.wall.Seconds()/r.best.wall.Seconds(), r.best.cpu.Seconds()/bytes*1e9)
	}
	return nil
}

// measure runs senders and a receiver. The receiver prints how long the bytes took, in nanoseconds; all print the CPU
// time they used for it. With more than one sender the last is killed when half of the bytes are there.
func measure(ctx context.Context, transport string, more int, p params) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	senders, addrs, err := startSenders(ctx, transport, 1+more, p)
	defer func() {
		for _, c := range senders {
			err = errors.Join(err, c.stop())
		}
	}()
	if err != nil {
		return s, err
	}
	p.peer = strings.Join(addrs, ",")
	receiver, err := start(ctx, transport+"-receive", p)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, receiver.stop()) }()
	text, err := receiver.line()
	for ; err == nil && !strings.Contains(text, " "); text, err = receiver.line() { // how many blocks there are
		if n, _ := strconv.Atoi(text); n >= p.mib/2 && len(senders) == 1+more && more > 0 {
			senders[more].kill()
			senders = senders[:more]
		}
	}
	if err != nil {
		return s, err
	}
	if _, err := fmt.Sscan(text, &s.wall, &s.cpu); err != nil {
		return s, fmt.Errorf("receiver says %q: %w", text, err)
	}
	for _, c := range senders {
		used, err := c.used()
		if err != nil {
			return s, err
		}
		s.cpu += used
	}
	return s, nil
}

// startSenders returns those that started, whatever the error.
func startSenders(ctx context.Context, transport string, n int, p params) (senders []*process, addrs []string, err error) {
	for range n {
		c, err := start(ctx, transport+"-send", p)
		if err != nil {
			return senders, nil, err
		}
		senders = append(senders, c)
	}
	for _, c := range senders {
		addr, err := c.line()
		if err != nil {
			return senders, nil, err
		}
		addrs = append(addrs, addr)
	}
	return senders, addrs, nil
}

// process is a child of the benchmark.
type process struct {
	cmd *exec.Cmd
	in  interface {
		Write([]byte) (int, error)
		Close() error
	}
	out *bufio.Reader
}

func start(ctx context.Context, role string, p params) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if p.prof != "" {
		p.prof = filepath.Join(p.prof, role+"-"+p.store)
	}
	c := exec.CommandContext(ctx, self, "-role", role, "-mib", fmt.Sprint(p.mib), "-store", p.store, "-peer", p.peer, "-profile", p.prof,
		fmt.Sprintf("-steps=%v", p.steps))
	c.Stderr = os.Stderr
	c.Env = append(os.Environ(), "TMPDIR="+p.scratch)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{c, in, bufio.NewReader(out)}, c.Start()
}

func (p *process) line() (string, error) {
	s, err := p.out.ReadString('\n')
	return strings.TrimSpace(s), err
}

// used asks a sender for the CPU time that it needed.
func (p *process) used() (cpu time.Duration, err error) {
	fmt.Fprintln(p.in, "done")
	text, err := p.line()
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(text, &cpu); err != nil {
		return 0, fmt.Errorf("sender says %q: %w", text, err)
	}
	return cpu, nil
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait() // says that it was killed
}

// stop ends a child by the end of its input.
func (p *process) stop() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
