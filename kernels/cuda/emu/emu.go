//go:build cudaemu

// Package emu builds the emulator: a libcuda that runs shoal's kernels on the CPU, compiled by the machine's C++ compiler
// from the same sources that nvcc compiles. Tests give its path to the CUDA backend, which takes it for a driver.
//
// cc/emu.h says what is modelled. Objects are kept under the user's cache by the hash of all that went into them, so that
// a changed kernel costs one compilation.
package emu

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// ErrNoCompiler says that this machine cannot build the emulator.
var ErrNoCompiler = errors.New("no C++ compiler: install g++, or set CXX")

// Library builds the emulator with the kernels below dir, the folder kernels/cuda, and further files of kernels, and
// returns its path.
func Library(dir string, more ...string) (string, error) {
	b, err := newBuild(dir)
	if err != nil {
		return "", err
	}
	units, err := sources(dir, "src/*.cu", "emu/cc/*.cpp")
	if err != nil {
		return "", err
	}
	units = append(units, more...)
	objects, errs := make([]string, len(units)), make([]error, len(units))
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, runtime.NumCPU()))
	for i, u := range units {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			objects[i], errs[i] = b.object(u)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return b.link(objects)
}

// build is one compiler, its flags, and the headers that all units see.
type build struct {
	dir, cache string
	compiler   string
	flags      []string
	common     []byte // hash of compiler, flags and headers
}

func newBuild(dir string) (*build, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	compiler := os.Getenv("CXX")
	if compiler == "" {
		compiler = "g++"
	}
	if compiler, err = exec.LookPath(compiler); err != nil {
		return nil, ErrNoCompiler
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	cache = filepath.Join(cache, "shoal", "cudaemu")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	b := &build{dir: dir, cache: cache, compiler: compiler, flags: []string{"-std=c++17", "-O2", "-g1", "-march=native", "-fPIC", "-fvisibility=hidden",
		"-fno-strict-aliasing", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-DSHOAL_EMULATOR",
		"-I" + filepath.Join(dir, "emu", "cc"), "-I" + filepath.Join(dir, "src")}}
	return b, b.hashCommon()
}

// hashCommon hashes what every unit depends on. Paths are left out: checkouts of equal content share objects.
func (b *build) hashCommon() error {
	version, err := exec.Command(b.compiler, "-march=native", "-Q", "--help=target").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", b.compiler, err)
	}
	headers, err := sources(b.dir, "src/*.cuh", "emu/cc/*.h")
	if err != nil {
		return err
	}
	h := sha256.New()
	fmt.Fprintln(h, b.compiler, b.flags[:len(b.flags)-2], string(version))
	for _, name := range headers {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, filepath.Base(name), len(text))
		h.Write(text)
	}
	b.common = h.Sum(nil)
	return nil
}

// object compiles a unit unless that was done before.
func (b *build) object(unit string) (string, error) {
	text, err := os.ReadFile(unit)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(slices.Clone(b.common), text...))
	out := filepath.Join(b.cache, filepath.Base(unit)+"."+hex.EncodeToString(sum[:8])+".o")
	return out, b.make(out, append(slices.Clone(b.flags), "-x", "c++", "-c", unit)...)
}

func (b *build) link(objects []string) (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(objects, "\n")))
	out := filepath.Join(b.cache, "libcuda-"+hex.EncodeToString(sum[:8])+".so")
	return out, b.make(out, append(slices.Clone(objects), "-shared", "-pthread")...)
}

// make runs the compiler for a file that is not there yet, and puts it in place at once.
func (b *build) make(out string, args ...string) error {
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	tmp, err := os.CreateTemp(b.cache, "tmp*")
	if err != nil {
		return err
	}
	tmp.Close()
	defer os.Remove(tmp.Name())
	if text, err := exec.Command(b.compiler, append(args, "-o", tmp.Name())...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(out), err, text)
	}
	return os.Rename(tmp.Name(), out)
}

func sources(dir string, patterns ...string) (out []string, err error) {
	for _, p := range patterns {
		names, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
	}
	return out, nil
}
