package main

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/trainer/model/tiny"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shoal": main})
}

// TestScripts runs the command line as people do. Besides testscript's own commands there are:
//
//	rc N COMMAND…    run it and expect exit status N
//	tiny DIR         write a tiny model
//	spoil DIR        make every weight of a tiny model NaN
//	up HOME          wait until the daemon of a home answers
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("SHOAL_HOME", filepath.Join(e.WorkDir, "home"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"rc": rc, "tiny": writeTiny, "spoil": spoil, "up": up},
	})
}

func rc(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func writeTiny(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(tiny.Write(dir, tiny.Shape{Type: "llama"}, 1))
}

func spoil(ts *testscript.TestScript, _ bool, args []string) {
	path := filepath.Join(ts.MkAbs(args[0]), "model.safetensors")
	data, err := os.ReadFile(path)
	ts.Check(err)
	for i := 8 + binary.LittleEndian.Uint64(data); i < uint64(len(data)); i++ { // past the header
		data[i] = 0xff
	}
	ts.Check(os.WriteFile(path, data, 0o644))
}

func up(ts *testscript.TestScript, _ bool, args []string) {
	n := demoNode{home: ts.MkAbs(args[0])}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		_, err := n.client().Info(context.Background())
		switch {
		case err == nil:
			return
		case !errors.Is(err, api.ErrDown):
			ts.Fatalf("%v", err)
		}
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("no daemon in %s: %v", n.home, err)
		}
	}
}
