package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/blob"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// damage says that files of the database are gone or hold something else than was written. It is a shard.ErrCorrupt.
type damage struct {
	dir   string
	cause error
}

func (d *damage) Error() string {
	cause, _, _ := strings.Cut(d.cause.Error(), "\n") // the database adds lines of detail
	return fmt.Sprintf("the store in %s is damaged (%s); move it away and start again: jobs are fetched anew from other nodes, models and data are to be imported again",
		d.dir, cause)
}

func (d *damage) Unwrap() []error { return []error{shard.ErrCorrupt, d.cause} }

// blockDamage says that one large block cannot be read any more. It is a shard.ErrCorrupt.
type blockDamage struct {
	c     cid.Cid
	path  string
	cause error
}

func (d *blockDamage) Error() string {
	return fmt.Sprintf("block %s in %s is damaged (%v); a job fetches it anew where another node has it, else import its model or data again",
		d.c, d.path, d.cause)
}

func (d *blockDamage) Unwrap() error { return shard.ErrCorrupt } // no file of the caller's is missing

// damaged ends the store's work, because what is on the disk is not what was written.
func (s *Store) damaged(cause error) { s.end(&damage{s.disk.dir, cause}) }

// guard is deferred by all that call the database, which panics at some of the damage that a disk can do. A panic ends
// the store's work and not the process: what the panic left half done is not used again.
func (s *Store) guard(err *error) { s.settle(recover(), err) }

// settle turns a panic, or nil, and the error that a call is about to return into the error that it returns.
func (s *Store) settle(recovered any, err *error) {
	switch p := recovered.(type) {
	case nil:
	case visitorPanic:
		panic(p.value)
	default:
		s.log.Error("store", "panic", p, "stack", string(debug.Stack()))
		s.damaged(fmt.Errorf("the database gave up: %v", p))
		*err = s.Err()
	}
	if failure := s.Err(); failure != nil && *err != nil {
		*err = failure
	}
	if pebble.IsCorruptionError(*err) && !errors.Is(*err, shard.ErrCorrupt) {
		*err = &damage{s.disk.dir, *err}
	}
}

// visitorPanic marks a panic of the code that visits entries: it is not the disk's fault and goes on to the caller.
type visitorPanic struct{ value any }

func visitEntry(visit func(key, value []byte) bool, key, value []byte) bool {
	defer func() {
		if p := recover(); p != nil {
			panic(visitorPanic{p})
		}
	}()
	return visit(key, value)
}

// files is the file system as the database sees it. A file of values that is gone or has no valid end makes the database
// panic, in its background goroutines too, where nobody can recover. So files looks first, and returns an error that
// the database takes for any failed read.
type files struct {
	vfs.FS
	lost func(error)  // hears of each file that should be there and is not readable as what it is
	made atomic.Int64 // files of values that were created
}

func (f *files) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if filepath.Ext(name) == ".blob" {
		f.made.Add(1)
	}
	return f.FS.Create(name, category)
}

func (f *files) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	kind := filepath.Ext(name)
	if kind == ".blob" {
		if err := f.checkValues(name); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.Open(name, opts...)
	if errors.Is(err, fs.ErrNotExist) && (kind == ".blob" || kind == ".sst") {
		f.lost(err)
		err = fmt.Errorf("%v", err) // as another error: see files
	}
	return file, err
}

// checkValues opens the file of values as the database is about to.
func (f *files) checkValues(name string) error {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil // Open meets it again
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r, err := blob.NewFileReader(context.Background(), readable, blob.FileReaderOptions{})
	if err == nil {
		return r.Close()
	}
	err = errors.Join(err, readable.Close())
	if pebble.IsCorruptionError(err) {
		f.lost(fmt.Errorf("%s: %w", name, err))
	}
	return fmt.Errorf("%s: %v", name, err) // as another error: see files
}

// checkMarker refuses a directory with data but without the mark that says which of the database's files count: the
// database would take it for an empty one and delete them.
func checkMarker(dir string, names []string, large string, fsys vfs.FS) error {
	desc, err := pebble.Peek(dir, fsys)
	if err != nil || desc.Exists {
		return err
	}
	if there, err := fsys.List(large); err == nil {
		names = append(slices.Clone(names), there...)
	}
	for _, name := range names {
		switch filepath.Ext(name) {
		case ".sst", ".blob", ".log", segmentEnding:
			return fmt.Errorf("%s is there, but not the mark that says which files count: %w", name, fs.ErrNotExist)
		}
	}
	return nil
}

// checkValueFiles counts what was in the directory, or was made since, and what the database needs: it looks for the
// files of keys itself, and panics over a missing one of values. Files that a crash left over count too, so a missing
// one may go unnoticed here; a read notices it.
func (s *Store) checkValueFiles(names []string, made *files) error {
	live := int64(s.db.Metrics().BlobFiles.LiveCount)
	there := made.made.Load() // after live: compactions are at work
	for _, name := range names {
		if filepath.Ext(name) == ".blob" {
			there++
		}
	}
	if there < live {
		return fmt.Errorf("%d of %d files of values are gone: %w", live-there, live, fs.ErrNotExist)
	}
	return nil
}

// isDamage tells whether the database could not be opened for what its files hold, and not for want of rights or room.
// It knows what it calls damage, rather than the opposite: a store that a newer shoal wrote must not be moved away.
func isDamage(err error) bool {
	if err == nil {
		return false
	}
	for _, target := range []error{fs.ErrNotExist, io.EOF, io.ErrUnexpectedEOF, pebble.ErrDBNotPristine} {
		if errors.Is(err, target) {
			return true
		}
	}
	return pebble.IsCorruptionError(err) || strings.Contains(err.Error(), "object size mismatch") // which has no mark
}
