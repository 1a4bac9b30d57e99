package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
)

// demoNode is a daemon of the demo: this binary once more, with a home of its own.
type demoNode struct {
	home string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	id   string
}

// client finds the daemon through its home, as the command line does.
func (n *demoNode) client() *api.Client {
	return api.NewClient(func() (string, string, error) {
		token, err := readSmall(filepath.Join(n.home, api.TokenFile))
		if err != nil {
			return "", "", err
		}
		addr, err := readSmall(filepath.Join(n.home, api.AddrFile))
		if err == nil && addr == "" {
			err = api.ErrDown
		}
		return addr, token, err
	})
}

// startNodes starts the daemons, all but the first with the first as bootstrap, and waits until all know each other.
func (d *demo) startNodes(ctx context.Context) error {
	bootstrap := ""
	for i := range demoNodes {
		n, err := d.startNode(i, bootstrap)
		if err != nil {
			return err
		}
		info, err := n.waitFor(ctx, func(api.Info) bool { return true })
		if err != nil {
			return err
		}
		n.id = info.ID
		d.say("node %d  %s  %s  %s", i+1, short(info.ID), device(info), info.Addresses[0])
		if i == 0 {
			bootstrap = info.Addresses[0]
		}
	}
	for _, n := range d.nodes {
		if _, err := n.waitFor(ctx, func(i api.Info) bool { return i.Peers == demoNodes-1 }); err != nil {
			return err
		}
	}
	d.say("every node knows the %d others", demoNodes-1)
	return nil
}

func (d *demo) startNode(i int, bootstrap string) (*demoNode, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &demoNode{home: d.path(fmt.Sprintf("node%d", i+1)), done: make(chan struct{})}
	if _, err := node.Init(n.home); err != nil {
		return nil, err
	}
	args := []string{"--home", n.home, "daemon", "--listen", "/ip4/127.0.0.1/tcp/0", "--api-addr", "127.0.0.1:0",
		"--mdns=false", "--device", "cpu", "--swarm", "demo"}
	if bootstrap != "" {
		args = append(args, "--bootstrap", bootstrap)
	}
	log, err := os.Create(filepath.Join(n.home, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy
	n.cmd = exec.Command(self, args...)
	n.cmd.Env = append(os.Environ(), "SHOAL_HOME=", "SHOAL_API=", "GOMAXPROCS=1") // four of them share this machine
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends the demo, and the demo ends them
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { n.cmd.Wait(); close(n.done) }()
	d.nodes = append(d.nodes, n)
	return n, nil
}

// waitFor asks the daemon until it says what is wanted.
func (n *demoNode) waitFor(ctx context.Context, ok func(api.Info) bool) (api.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		info, err := n.client().Info(ctx)
		if err == nil && ok(info) {
			return info, nil
		}
		select {
		case <-ctx.Done():
			return info, fmt.Errorf("node in %s is not ready: %w\n%s", n.home, errors.Join(context.Cause(ctx), err), n.tail())
		case <-n.done:
			return info, fmt.Errorf("node in %s ended\n%s", n.home, n.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail is the end of the daemon's log.
func (n *demoNode) tail() string {
	data, err := os.ReadFile(filepath.Join(n.home, "log"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}

// kill ends the process at once, as a power cut would.
func (n *demoNode) kill() {
	n.cmd.Process.Kill()
	<-n.done
}

// stop ends all daemons, politely first.
func (d *demo) stop() error {
	for _, n := range d.nodes {
		n.cmd.Process.Signal(syscall.SIGTERM) // fails for those that are gone
	}
	var stuck error
	for i, n := range d.nodes {
		select {
		case <-n.done:
		case <-time.After(2 * node.ShutdownTime):
			n.kill()
			stuck = fmt.Errorf("node %d did not stop when asked and was killed", i+1)
		}
	}
	return stuck
}
