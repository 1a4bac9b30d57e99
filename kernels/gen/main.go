// Command gen writes the assembly of kernels/cpu: one vector kernel family and one GEMM microkernel for each
// instruction set, from one description of each kernel.
//
// The kernels are written once, in terms of an isa that knows the width of its registers; vector kernels walk groups
// of 16 lanes, which are one AVX-512 register or two AVX2 registers, so that both sets perform the same roundings in
// the same order. The Go versions in kernels/cpu/generic.go say what each kernel computes.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", "../cpu", "directory of the package that the files are written to")
	flag.Parse()
	for name, text := range files() {
		if err := os.WriteFile(filepath.Join(*out, name), []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

// files are the generated files by name.
func files() map[string]string {
	return map[string]string{
		"gemm_amd64.s":      gemmFile(),
		"vector_amd64.s":    vectorFile(),
		"assembly_amd64.go": declarations(),
		"gemm_arm64.s":      neonFile(),
		"assembly_arm64.go": neonDeclarations(),
	}
}
