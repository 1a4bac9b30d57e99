//go:build unix

// Blockbench measures how fast blocks move between two nodes on loopback, beside the same bytes over one connection of
// crypto/tls, each end a process of its own, and prints the ratio.
//
//	go run ./node/blockbench [-mib 256] [-rounds 3] [-profile DIR]
//
// Three rows: plain TLS 1.3 whose receiver drops the bytes; blocks whose receiver verifies and drops them, so the exchange
// alone; and blocks from one Pebble store into another, durable when it ends. The rows take turns and the
// best of each counts, because other work on the machine only ever slows one down. CPU is user and system time of both
// processes.
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

	listen string // IP address of a sender
	home   string // of a receiver's store, which then stays
	prof   string // a file for a profile of the processor time that is counted
	steps  bool   // a receiver prints how many blocks it has, a line each time, before its times
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
	best                   sample
}

// sample is one measurement.
type sample struct{ wall, cpu time.Duration }

func compare(ctx context.Context, p params, rounds int) error {
	rows := []*row{
		{name: "crypto/tls", transport: "tls"},
		{name: "blocks, verified", transport: "blocks", store: "memory"},
		{name: "blocks, store to store", transport: "blocks", store: "disk"},
	}
	for range rounds {
		for _, r := range rows {
			p.store = r.store
			s, err := measure(ctx, r.transport, p)
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

// measure runs a sender and a receiver. The receiver prints how long the bytes took, in nanoseconds; both print the CPU
// time they used for it.
func measure(ctx context.Context, transport string, p params) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	sender, err := start(ctx, transport+"-send", p)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, sender.stop()) }()
	if p.peer, err = sender.line(); err != nil {
		return s, err
	}
	receiver, err := start(ctx, transport+"-receive", p)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, receiver.stop()) }()
	text, err := receiver.line()
	if err != nil {
		return s, err
	}
	var near, far time.Duration
	if _, err := fmt.Sscan(text, &s.wall, &near); err != nil {
		return s, fmt.Errorf("receiver says %q: %w", text, err)
	}
	fmt.Fprintln(sender.in, "done")
	if text, err = sender.line(); err != nil {
		return s, err
	}
	if _, err := fmt.Sscan(text, &far); err != nil {
		return s, fmt.Errorf("sender says %q: %w", text, err)
	}
	s.cpu = near + far
	return s, nil
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
		p.prof = filepath.Join(p.prof, role+"-"+p.store+".pprof")
	}
	c := exec.CommandContext(ctx, self, "-role", role, "-mib", fmt.Sprint(p.mib), "-store", p.store, "-peer", p.peer, "-profile", p.prof)
	c.Stderr = os.Stderr
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

// stop ends a child by the end of its input.
func (p *process) stop() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
