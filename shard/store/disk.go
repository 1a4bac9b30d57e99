package store

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/seed-7b27c88a/shoal/shard"
)

// disk knows how much room the file system has.
//
// Pebble ends the process when a write to its log fails. So waitForRoom, which Pebble's file system calls when a write
// met a full disk and before it tries again, comes back only when there is room: the write then succeeds.
type disk struct {
	fs      vfs.FS
	dir     string
	reserve int64 // bytes that blocks leave free
	retry   time.Duration

	mu   sync.Mutex
	full chan struct{} // guarded by mu; closed while somebody is in waitForRoom
	n    int           // guarded by mu; how many are
}

func newDisk(fs vfs.FS, dir string, reserve int64, retry time.Duration) *disk {
	return &disk{fs: fs, dir: dir, reserve: reserve, retry: retry, full: make(chan struct{})}
}

// free is the bytes that this user may still write; false where the system does not say.
func (d *disk) free() (int64, bool) {
	u, err := d.fs.GetDiskUsage(d.dir)
	if err != nil {
		return 0, false
	}
	return int64(min(u.AvailBytes, 1<<62)), true
}

// room is ErrFull unless n more bytes leave reserve free.
func (d *disk) room(n int, reserve int64) error {
	if free, ok := d.free(); ok && free-int64(n) < reserve {
		return fmt.Errorf("%w: the disk of %s has %d MiB left, of which %d MiB are kept in reserve; free some space",
			shard.ErrFull, d.dir, free>>20, reserve>>20)
	}
	return nil
}

// least is the room that lets a waiting write go on.
func (d *disk) least() int64 { return d.reserve / kvShare / 2 }

// noRoom tells whether a write met a full disk or a full quota of the system's.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// fullNow is closed while writes hang on a full disk.
func (d *disk) fullNow() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full
}

func (d *disk) waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n > 0
}

func (d *disk) errFull() error {
	return fmt.Errorf("%w: the disk of %s has no room left; free some space, the node goes on by itself", shard.ErrFull, d.dir)
}

// waitForRoom blocks until the disk has a little room, or one interval where the system does not say how much there is.
func (d *disk) waitForRoom() {
	d.begin()
	defer d.end()
	tick := time.NewTicker(d.retry)
	defer tick.Stop()
	for {
		<-tick.C
		if free, ok := d.free(); !ok || free > d.least() {
			return
		}
	}
}

func (d *disk) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n++; d.n == 1 {
		close(d.full)
	}
}

func (d *disk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n--; d.n == 0 {
		d.full = make(chan struct{})
	}
}
