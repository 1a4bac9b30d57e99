package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// minFree is the disk space below which the doctor warns, bytes.
const minFree = 1 << 30

// Doctor checks what can be checked without a daemon.
func Doctor(_ context.Context, cfg config.Config) []api.Check {
	home := checkHome(cfg)
	checks := []api.Check{{Name: "daemon", OK: true, Detail: "not running in " + cfg.Home}, home}
	if home.OK { // else they would only say so again
		checks = append(checks, checkIdentity(cfg), checkToken(cfg), checkStore(cfg))
	}
	checks = append(checks, checkDisk(cfg), checkDevice(cfg))
	checks = append(checks, gpuChecks(cfg.Device)...)
	return append(checks, checkPort(cfg), checkPeerPort(cfg))
}

func checkHome(cfg config.Config) api.Check {
	c := api.Check{Name: "home", Detail: cfg.Home}
	st, err := os.Stat(cfg.Home)
	switch {
	case os.IsNotExist(err):
		c.Detail, c.Fix = cfg.Home+" is not there yet", "shoal init"
		return c
	case err != nil:
		c.Detail, c.Fix = err.Error(), "make it readable for this user"
		return c
	case !st.IsDir():
		c.Detail, c.Fix = cfg.Home+" is not a directory", "choose another with --home"
		return c
	}
	f, err := os.CreateTemp(cfg.Home, ".doctor-*")
	if err != nil {
		c.Detail, c.Fix = err.Error(), "make it writable for this user"
		return c
	}
	f.Close()
	os.Remove(f.Name())
	c.OK = true
	return c
}

// checkIdentity reads the key as the daemon would; it makes none.
func checkIdentity(cfg config.Config) api.Check {
	c := api.Check{Name: "identity"}
	path := filepath.Join(cfg.Home, identityFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		c.Detail, c.Fix = path+" is not there yet", "shoal init"
		return c
	}
	key, err := p2p.LoadIdentity(path)
	if err != nil {
		c.Detail, c.Fix = err.Error(), "mend or move away the file, then \"shoal init\"; a new identity is a new peer to others"
		return c
	}
	c.OK, c.Detail = true, string(record.IDOf(key.Public().(ed25519.PublicKey)))
	return c
}

// checkToken: whoever reads the token may run jobs on this node.
func checkToken(cfg config.Config) api.Check {
	c := api.Check{Name: "token"}
	path := filepath.Join(cfg.Home, api.TokenFile)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Detail, c.Fix = path+" is not there yet", "shoal init"
		return c
	case err != nil:
		c.Detail, c.Fix = err.Error(), "make it readable for this user"
		return c
	case !st.Mode().IsRegular():
		c.Detail, c.Fix = path+" is not a regular file", "move it away, then \"shoal init\""
		return c
	case st.Mode().Perm()&0o077 != 0:
		c.Detail, c.Fix = fmt.Sprintf("%s is open to other users (mode %04o)", path, st.Mode().Perm()), "chmod 600 "+path
		return c
	}
	if _, err := loadToken(cfg.Home); err != nil {
		c.Detail, c.Fix = err.Error(), "remove it, then \"shoal init\""
		return c
	}
	c.OK, c.Detail = true, path
	return c
}

// checkStore opens the store, which repairs what a crash left, and closes it again.
func checkStore(cfg config.Config) api.Check {
	c := api.Check{Name: "store", Detail: filepath.Join(cfg.Home, storeDir)}
	if !HasStore(cfg) {
		c.OK, c.Detail = true, "none yet"
		return c
	}
	l, err := OpenLibrary(cfg)
	if err == nil {
		c = checkLibrary(l, c)
		err = l.Close()
	}
	switch {
	case errors.Is(err, ErrBusy):
		c.Detail, c.Fix = c.Detail+" is open in another process, but no daemon answers", "wait for that process, or stop it"
	case errors.Is(err, shard.ErrFull):
		c.Detail, c.Fix = err.Error(), "free some space on that disk, or move the home to a larger one"
	case errors.Is(err, shard.ErrCorrupt): // that says what to do
		c.OK, c.Detail, c.Fix = false, err.Error(), "check the disk; then as it says"
	case err != nil:
		c.OK, c.Detail, c.Fix = false, err.Error(), "check the disk"
	}
	return c
}

func checkDisk(cfg config.Config) api.Check {
	c := api.Check{Name: "disk"}
	dir := cfg.Home
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	free, err := diskFree(dir)
	if err != nil {
		c.Detail, c.Fix = err.Error(), "choose a home on another file system"
		return c
	}
	c.OK, c.Detail = free >= minFree, fmt.Sprintf("%v free", free)
	if !c.OK {
		c.Fix = fmt.Sprintf("free some space; below %v models and checkpoints may not fit", config.Bytes(minFree))
	}
	return c
}

// diskFree is what this user may still write to the file system of dir.
func diskFree(dir string) (config.Bytes, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return config.Bytes(uint64(st.Bsize) * st.Bavail), nil
}

// diskReserve is what the store leaves free, bytes: below it, it takes no blocks.
const diskReserve = 256 << 20

// warnDisk says what a disk with free bytes means for a daemon that starts on it.
func warnDisk(log *slog.Logger, home string, free config.Bytes) {
	if free < diskReserve {
		log.Warn("the disk is nearly full: this node takes no jobs, models or data until there is room; free some space, or move the home",
			"home", home, "free", free, "needed", config.Bytes(diskReserve))
	}
}

func checkPort(cfg config.Config) api.Check {
	c := api.Check{Name: "api", Detail: cfg.APIAddr + " is free"}
	l, err := net.Listen("tcp", cfg.APIAddr)
	if err != nil {
		c.Detail, c.Fix = err.Error(), "stop what listens there, or set api_addr"
		return c
	}
	l.Close()
	c.OK = true
	return c
}
