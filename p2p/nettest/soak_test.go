package nettest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSoak lets a job train for SHOAL_SOAK on two nodes, one of them behind a NAT, while two others behind NATs come and
// go, by a signal or killed, links are cut, a router's NAT changes its kind, and both ports of a trainer are sent garbage.
// What stays must not grow: goroutines, memory of the Go heap and of the process.
func TestSoak(t *testing.T) {
	while, err := time.ParseDuration(os.Getenv("SHOAL_SOAK"))
	if err != nil {
		t.Skip("takes ten minutes: run make soak-net")
	}
	l := newLab(t, 5, "--delay", "15ms", "--nat", "3", "--nat-type", "cone")
	boot := l.start(1, "--reachability", "public", "--no-mdns", "--max-jobs", "0")
	addr := boot.addr()
	a := l.start(2, "--no-mdns", "--bootstrap", addr, "--device", "cpu:generic", "--reachability", "public", "--log-level", "info")
	a.up()
	b := l.start(3, "--no-mdns", "--bootstrap", addr, "--device", "cpu:generic", "--log-level", "info")
	b.up()
	if _, err := a.shoal(time.Minute, "train", "--detach", "-f", soakJob(t)); err != nil {
		t.Fatal(err)
	}
	l.eventually(time.Minute, "the job runs", func() error {
		n, err := committed(a, "soak")
		if err == nil && n < 2 {
			err = fmt.Errorf("at step %d", n)
		}
		return err
	})
	ctx, stop := context.WithTimeout(t.Context(), while)
	defer stop()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var trouble sync.WaitGroup
	for i, at := range []int{4, 5} {
		trouble.Go(func() { l.comeAndGo(ctx, at, rand.New(rand.NewPCG(seed, uint64(i))), addr) })
	}
	trouble.Go(func() { l.troubleNAT(ctx, 3) })
	trouble.Go(func() { l.sendGarbage(ctx, 1, a) })
	kept := []*daemon{boot, a, b}
	watched := watchMemory(ctx, t, kept)
	trouble.Wait()
	steps, err := committed(a, "soak")
	t.Logf("%d steps in %v", steps, while)
	if err != nil || float64(steps) < while.Seconds()/20 {
		t.Errorf("%d steps in %v: %v", steps, while, err)
	}
	for i, d := range kept {
		watched[i].judge(t, d)
	}
	l.eventually(time.Minute, "the trainers are connected at the end", func() error {
		path, err := a.path(b.up().ID)
		if err == nil && path == "" {
			err = fmt.Errorf("they are not")
		}
		return err
	})
}

func soakJob(t *testing.T) (spec string) {
	t.Helper()
	rows, model := jobInputs(t)
	spec = filepath.Join(t.TempDir(), "job.yaml")
	text := fmt.Sprintf("version: shoal/v1\nname: soak\nbase_model: %s\nadapter: lora\ndatasets: [{path: %s, type: tokens}]\n"+
		"sequence_len: 64\nmax_steps: 1000000\noptimizer: {lr: 0.0001}\nmicro_batch_size: 2\ngradient_accumulation_steps: 8\nswarm: {min_peers: 2}\n", model, rows)
	if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return spec
}

// comeAndGo starts and stops a node with one home, again and again. It takes part in the job while it is there.
func (l *lab) comeAndGo(ctx context.Context, at int, dice *rand.Rand, bootstrap string) {
	home := l.t.TempDir()
	for ctx.Err() == nil {
		d := &daemon{l: l, at: at, home: home}
		d.run("--no-mdns", "--bootstrap", bootstrap, "--log-level", "info")
		rest(ctx, 8*time.Second+time.Duration(dice.Int64N(int64(12*time.Second))))
		if dice.IntN(2) == 0 {
			d.cmd.Process.Kill()
			<-d.done
		} else {
			d.stop()
		}
		rest(ctx, time.Duration(dice.Int64N(int64(4*time.Second))))
	}
}

// troubleNAT cuts a node's link for some seconds and lets its router come back with the other kind of NAT.
func (l *lab) troubleNAT(ctx context.Context, at int) {
	node := strconv.Itoa(at)
	for i := 0; ctx.Err() == nil; i++ {
		if rest(ctx, 45*time.Second); ctx.Err() != nil {
			return
		}
		l.netlab("cut", node)
		kind := "masquerade"
		if i%2 == 0 {
			kind = "masquerade fully-random"
		}
		rules := fmt.Sprintf(`chain=$(nft list ruleset | awk '/^table/ {t = $2 " " $3} /masquerade/ {print t}'); nft flush chain $chain post && nft add rule $chain post oifname eth0 %s`, kind)
		if out, err := l.netlab("exec", "--router", node, "sh", "-c", rules); err != nil {
			l.t.Errorf("NAT of node %d: %v %s", at, err, out)
		}
		rest(ctx, 4*time.Second)
		l.netlab("heal", node)
	}
}

// sendGarbage floods a daemon from another node with 17 connections and datagrams a second.
func (l *lab) sendGarbage(ctx context.Context, from int, to *daemon) {
	cmd := l.command(ctx, "exec", strconv.Itoa(from), os.Args[0])
	cmd.Env = append(cmd.Environ(), helper+"=garbage", "SHOAL_NETTEST_TO=44.77.0."+strconv.Itoa(to.at)+":4481")
	cmd.Run() // until ctx ends
}

// helper names what this test binary does, run on a node of the laboratory, in place of testing.
const helper = "SHOAL_NETTEST_HELPER"

func help(what string) {
	to := os.Getenv("SHOAL_NETTEST_TO")
	switch what {
	case "garbage":
		tick := time.NewTicker(time.Minute / 1000)
		for i := 0; ; i++ {
			<-tick.C
			go garbage("tcp", to, i)
			go garbage("udp", to, i)
		}
	case "get":
		c, err := net.Dial("tcp", to)
		if err == nil {
			fmt.Fprintf(c, "GET /metrics HTTP/1.0\r\nHost: %s\r\n\r\n", to)
			_, err = io.Copy(os.Stdout, c)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// usage is what a daemon held over time.
type usage struct {
	goroutines, heap, resident []int
	missed                     int // readings that a busy machine did not answer in time
}

// watchMemory reads every five seconds, until ctx ends.
func watchMemory(ctx context.Context, t *testing.T, nodes []*daemon) []usage {
	t.Helper()
	out := make([]usage, len(nodes))
	for ctx.Err() == nil {
		for i, d := range nodes {
			m, err := d.metrics()
			u := &out[i]
			if err != nil {
				t.Logf("metrics of node %d: %v", d.at, err)
				u.missed++
				continue
			}
			u.goroutines = append(u.goroutines, m["shoal_goroutines"])
			u.heap = append(u.heap, m["shoal_heap_bytes"]>>20)
			u.resident = append(u.resident, resident(t, d))
		}
		rest(ctx, 5*time.Second)
	}
	return out
}

// metrics reads those without labels.
func (d *daemon) metrics() (map[string]int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := d.l.command(ctx, "exec", strconv.Itoa(d.at), os.Args[0])
	cmd.Env = append(cmd.Environ(), helper+"=get", "SHOAL_NETTEST_TO=127.0.0.1:4480")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w %s", err, errs.String())
	}
	m := map[string]int{}
	for line := range strings.Lines(out.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = int(v)
		}
	}
	return m, nil
}

// judge compares the second quarter of the time with the last.
func (u usage) judge(t *testing.T, d *daemon) {
	t.Helper()
	n := len(u.heap)
	if n < 12 || u.missed > n/10 {
		t.Errorf("node %d: only %d readings, %d missed", d.at, n, u.missed)
		return
	}
	for _, v := range []struct {
		what string
		all  []int
		more int // that is allowed beside a quarter
	}{{"goroutines", u.goroutines, 40}, {"MiB of heap", u.heap, 24}, {"MiB resident", u.resident, 48}} {
		early, late := median(v.all[n/4:n/2]), median(v.all[3*n/4:])
		t.Logf("node %d: %s %d → %d, at most %d", d.at, v.what, early, late, slices.Max(v.all))
		if late > early+early/4+v.more {
			t.Errorf("node %d: %s grew from %d to %d", d.at, v.what, early, late)
		}
	}
}

func median(v []int) int {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
