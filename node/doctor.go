package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// minFree is the disk space below which the doctor warns, bytes.
const minFree = 1 << 30

// Doctor checks what can be checked without a daemon.
func Doctor(_ context.Context, cfg config.Config) []api.Check {
	return []api.Check{
		{Name: "daemon", OK: true, Detail: "not running in " + cfg.Home},
		checkHome(cfg), checkDisk(cfg), checkDevice(cfg), checkPort(cfg),
	}
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

func checkDisk(cfg config.Config) api.Check {
	c := api.Check{Name: "disk"}
	dir := cfg.Home
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		c.Detail, c.Fix = err.Error(), "choose a home on another file system"
		return c
	}
	free := config.Bytes(uint64(st.Bsize) * st.Bavail)
	c.OK, c.Detail = free >= minFree, fmt.Sprintf("%v free", free)
	if !c.OK {
		c.Fix = fmt.Sprintf("free some space; below %v models and checkpoints may not fit", config.Bytes(minFree))
	}
	return c
}

func checkDevice(cfg config.Config) api.Check {
	c := api.Check{Name: "device"}
	dev, err := OpenDevice(cfg.Device)
	if err != nil {
		c.Detail, c.Fix = err.Error(), "set device to auto or cpu"
		return c
	}
	i := dev.Info()
	dev.Close()
	c.OK, c.Detail = true, fmt.Sprintf("%s: %s, %s, %d workers", i.Name, i.Model, i.Kernel, i.Workers)
	return c
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
