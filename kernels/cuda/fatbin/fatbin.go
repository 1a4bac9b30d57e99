// Package fatbin holds the machine code of shoal's kernels, built from kernels/cuda/src by "make fatbin", for all
// processors that shoal serves, and PTX for newer ones.
package fatbin

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

// Image is what the driver loads.
//
//go:embed kernels.fatbin
var Image string

//go:embed manifest.json
var manifest []byte

// Manifest says what Image was built from.
type Manifest struct {
	Sources string   `json:"sources"` // kernels/cuda/src.Hash
	Image   string   `json:"image"`   // SHA-256 of Image
	Tool    string   `json:"tool"`    // the compiler's version
	Targets []string `json:"targets"`
}

// Read is the manifest of Image.
func Read() (m Manifest, err error) {
	if err = json.Unmarshal(manifest, &m); err != nil {
		return m, fmt.Errorf("manifest of the kernels: %w", err)
	}
	return m, nil
}
