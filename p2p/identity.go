package p2p

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// maxKeyFile bounds the identity file; an Ed25519 key takes 68 bytes.
const maxKeyFile = 4 << 10

// LoadIdentity reads the node's Ed25519 key (in libp2p's encoding) from path, or makes one and writes it there with
// mode 0600. It never replaces a file: whoever loses the key is another node to everybody.
func LoadIdentity(path string) (ed25519.PrivateKey, error) {
	for {
		key, err := readIdentity(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
		// Two processes may start at once: the link decides, the loser reads the winner's key.
		if err := createIdentity(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create identity %s: %w", path, err)
		}
	}
}

func readIdentity(path string) (ed25519.PrivateKey, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return nil, fmt.Errorf("identity %s is not a key file; move it away and start again for a new identity", path)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("identity %s can be read by other users (mode %04o); run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w; restore it from a backup, or move it away for a new identity", path, err)
	}
	return key, nil
}

// decodeKey reads libp2p's encoding of an Ed25519 private key.
func decodeKey(data []byte) (ed25519.PrivateKey, error) {
	k, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("not a private key: %w", err)
	}
	raw, err := k.Raw()
	if err != nil {
		return nil, err
	}
	if k.Type() != crypto.Ed25519 || len(raw) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("a key of type %s, want Ed25519", k.Type())
	}
	return ed25519.PrivateKey(raw), nil
}

func createIdentity(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	k, err := toLibp2p(key)
	if err != nil {
		return err
	}
	data, err := crypto.MarshalPrivateKey(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := writeSync(tmp, data); err != nil {
		return err
	}
	return os.Link(tmp.Name(), path)
}

func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func toLibp2p(key ed25519.PrivateKey) (crypto.PrivKey, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("identity key of %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	return crypto.UnmarshalEd25519PrivateKey(key)
}

// newBoot draws the boot id of this start; never 0, which means unknown.
func newBoot() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		if boot := binary.LittleEndian.Uint64(b[:]); boot != 0 {
			return boot
		}
	}
}
