package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Names inside a home, besides config.File, api.AddrFile and api.TokenFile.
const (
	identityFile = "identity" // Ed25519 key
	storeDir     = "store"    // blocks and tables
	hubDir       = "hub"      // downloads from the Hugging Face hub
)

// Init makes a home, or completes one: directory, identity, API token and a commented configuration. What is there
// already stays.
func Init(home string) (record.PeerID, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", err
	}
	key, err := p2p.LoadIdentity(filepath.Join(home, identityFile))
	if err != nil {
		return "", err
	}
	if _, err := loadToken(home); err != nil {
		return "", err
	}
	err = create(filepath.Join(home, config.File), []byte(config.Sample()), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return record.IDOf(key.Public().(ed25519.PublicKey)), nil
}

// loadToken returns the API's bearer token, made at the first call.
func loadToken(home string) (string, error) {
	path := filepath.Join(home, api.TokenFile)
	err := create(path, []byte(newToken()+"\n"), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 16 {
		return "", fmt.Errorf("%s is too short for a token; remove it and start again for a new one", path)
	}
	return token, nil
}

func newToken() string {
	var b [24]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// create writes a new file, complete or not at all; fs.ErrExist when there is one.
func create(path string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Link(tmp, path)
}

// replace writes a file so that readers see the old or the new one.
func replace(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // gone already when all went well
	return os.Rename(tmp, path)
}

func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}
