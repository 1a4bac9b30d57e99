// Command build makes kernels/cuda/fatbin/kernels.fatbin and its manifest with nvcc. Run it in kernels/cuda/fatbin:
// "go run ./build", with -nvcc if nvcc is not on the path. CUDA 11.8 serves; Debian has it as nvidia-cuda-toolkit.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/fatbin"
	"github.com/seed-7b27c88a/shoal/kernels/cuda/src"
)

// targets are the processors whose machine code is in the file: that of sm_80 runs on 8.6 and 8.9 too. The last is PTX,
// which drivers translate for newer ones.
var targets = []string{"sm_80", "sm_90", "compute_80"}

func main() {
	nvcc := flag.String("nvcc", "nvcc", "the compiler")
	flag.Parse()
	if err := run(*nvcc); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(nvcc string) error {
	dir, err := os.MkdirTemp("", "fatbin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	all := filepath.Join(dir, "all.cu")
	var text bytes.Buffer
	for _, u := range src.Units() { // one unit, so that there is one module to load
		fmt.Fprintf(&text, "#include %q\n", u)
	}
	if err := os.WriteFile(all, text.Bytes(), 0o600); err != nil {
		return err
	}
	out := filepath.Join(dir, "kernels.fatbin")
	args := []string{"-std=c++17", "-O3", "-fmad=false", "-Xfatbin", "-compress-all", "-I", "../src", "-fatbin", "-o", out}
	for _, t := range targets {
		arch := strings.Replace(t, "sm_", "compute_", 1)
		args = append(args, "-gencode", "arch="+arch+",code="+t)
	}
	cmd := exec.Command(nvcc, append(args, all)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", nvcc, err)
	}
	return write(nvcc, out)
}

func write(nvcc, out string) error {
	image, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	version, err := exec.Command(nvcc, "--version").Output()
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(version)), "\n")
	sum := sha256.Sum256(image)
	m := fatbin.Manifest{Sources: src.Hash(), Image: hex.EncodeToString(sum[:]), Tool: lines[len(lines)-1], Targets: targets}
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile("kernels.fatbin", image, 0o644); err != nil {
		return err
	}
	return os.WriteFile("manifest.json", append(text, '\n'), 0o644)
}
