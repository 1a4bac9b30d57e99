package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segments are the files in which large blocks lie, one behind the other; the database knows where (place). A block is
// written once, from the caller's memory to where it stays, and a file is synced once for all blocks that came since the
// last time. Files are only appended to: what is removed leaves a hole, until garbage collection moves the rest and
// removes the file.
//
// A crash may leave a place in the database whose bytes never reached the disk, because neither is synced for a block
// that is put later. So each place carries the epoch in which it was written. A sync ends an epoch: when it returned, the
// blocks of all epochs until then are on the disk, and the database is told with its next write. Open checks the blocks
// of later epochs (recovery.go).
//
// Blocks go past the system's cache where they can, as most are of 1 MiB. New pages of the cache cost twice the processor
// time of all else that a block needs on its way, and ten times on a virtual machine that gives free memory back to its
// host; and what strangers fetch would push out what this node works with. Get, which is for the node's own use, reads through
// the cache.
//
// Safe for concurrent use: blocks are written side by side.
type segments struct {
	fs  vfs.FS
	dir string
	max int64 // bytes, at most, of a file with several blocks

	mu     sync.Mutex // guards the rest but durable and err, and the fields of files
	files  map[uint32]*segment
	active *segment // new blocks go here; nil: to a new file
	last   uint32   // highest number of a file, ever
	epoch  uint64   // of what is written now

	syncing sync.Mutex    // held while files are synced
	err     error         // guarded by syncing: why the latest sync failed; then no other counts
	durable atomic.Uint64 // all epochs up to this one are on the disk
}

// segment is one file.
type segment struct {
	id    uint32
	file  vfs.File // open while blocks are written or not yet synced
	past  *os.File // the same past the system's cache; nil: only file is to be used
	end   int64    // where the next block goes
	busy  int      // blocks that are being written, or not yet in the database
	dirty bool     // written to since the last sync
	live  int64    // bytes of blocks that the database knows
}

// sector is where places begin, at multiples of it: bytes of the largest sector of usual disks, and of a page.
const sector = 4 << 10

const (
	segmentsDir    = "blocks"
	segmentEnding  = ".seg"
	segmentCreated = vfs.WriteCategoryUnspecified
)

func (g *segments) path(id uint32) string {
	return g.fs.PathJoin(g.dir, fmt.Sprintf("%08d%s", id, segmentEnding))
}

// numberOf is the number in a file's name; false: it is not ours.
func numberOf(name string) (uint32, bool) {
	text, ok := strings.CutSuffix(name, segmentEnding)
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), ok && err == nil
}

// write stores data and returns where. The caller calls done when the database knows the place, or never will.
func (g *segments) write(data []byte) (at place, done func(), err error) {
	sum := sumOf(data) // now: it is in the processor's cache since it was hashed
	seg, offset, err := g.reserve(int64(len(data)))
	if err != nil {
		return place{}, nil, err
	}
	done = func() { g.release(seg) }
	if err := seg.write(data, offset); err != nil {
		done()
		return place{}, nil, err
	}
	g.mu.Lock()
	seg.dirty = true
	g.mu.Unlock()
	return place{segment: seg.id, offset: uint32(offset), size: uint32(len(data)), sum: sum}, done, nil
}

// write writes data to its place.
func (seg *segment) write(data []byte, offset int64) error {
	if seg.past != nil && fitsPast(data, offset) {
		if _, err := seg.past.WriteAt(data, offset); !errors.Is(err, syscall.EINVAL) { // larger sectors
			return err
		}
	}
	_, err := seg.file.WriteAt(data, offset)
	return err
}

// reserve finds room for n bytes at the end of a file.
func (g *segments) reserve(n int64) (seg *segment, offset int64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.active == nil || g.active.end > 0 && g.active.end+n > g.max {
		if err := g.begin(); err != nil {
			return nil, 0, err
		}
	}
	seg = g.active
	if seg.file == nil { // an earlier process began it
		if seg.file, err = g.fs.OpenReadWrite(g.path(seg.id), segmentCreated); err != nil {
			return nil, 0, err
		}
		seg.past = openPast(g.fs, g.path(seg.id), true)
	}
	offset = (seg.end + sector - 1) / sector * sector
	seg.end = offset + n
	seg.busy++
	return seg, offset, nil
}

// begin makes the next file, whose name is on the disk before any place names it. Called with mu held.
func (g *segments) begin() error {
	id := g.last + 1
	file, err := g.fs.OpenReadWrite(g.path(id), segmentCreated)
	if err != nil {
		return err
	}
	if err := syncDir(g.fs, g.dir); err != nil {
		return errors.Join(err, file.Close())
	}
	old := g.active
	g.last, g.active = id, &segment{id: id, file: file, past: openPast(g.fs, g.path(id), true)}
	g.files[id] = g.active
	if old != nil {
		g.shut(old)
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (g *segments) release(seg *segment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seg.busy--
	g.shut(seg)
}

// shut closes a file that nobody writes to any more. An error says nothing: the file was synced before. Called with mu
// held.
func (g *segments) shut(seg *segment) {
	if seg != g.active && seg.busy == 0 && !seg.dirty {
		seg.close()
	}
}

func (seg *segment) close() (err error) {
	if seg.past != nil {
		err = seg.past.Close()
		seg.past = nil
	}
	if seg.file != nil {
		err = errors.Join(err, seg.file.Close())
		seg.file = nil
	}
	return err
}

// count changes how many bytes of a file the database knows. The caller has the turn to write.
func (g *segments) count(at place, sign int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if seg := g.files[at.segment]; seg != nil {
		seg.live += sign * int64(at.size)
	}
}

// now is the epoch for a place that is about to be written to the database.
func (g *segments) now() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.epoch
}

// sync returns when all blocks up to an epoch are on the disk. Callers that come while another syncs share the next one.
func (g *segments) sync(epoch uint64) error {
	if g.durable.Load() >= epoch {
		return nil
	}
	g.syncing.Lock()
	defer g.syncing.Unlock()
	if g.err != nil || g.durable.Load() >= epoch {
		return g.err
	}
	ended, dirty := g.endEpoch()
	for _, seg := range dirty {
		if g.err = seg.file.SyncData(); g.err != nil {
			return g.err
		}
	}
	g.synced(dirty)
	g.durable.Store(ended)
	return nil
}

// endEpoch returns the epoch that ends and what was written until now. Whoever writes a place to the database took its
// epoch after the bytes were in the file: they are in dirty, or synced already. Without any, no epoch ends.
func (g *segments) endEpoch() (ended uint64, dirty []*segment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, seg := range g.files {
		if seg.dirty {
			seg.dirty = false
			seg.busy++ // until synced
			dirty = append(dirty, seg)
		}
	}
	if len(dirty) == 0 {
		return g.epoch - 1, nil
	}
	g.epoch++
	return g.epoch - 1, dirty
}

func (g *segments) synced(segs []*segment) {
	for _, seg := range segs {
		g.release(seg)
	}
}

// errRotten says that the bytes of one block changed.
var errRotten = errors.New("a block's bytes changed on the disk")

// read returns the bytes at a place, in buf's memory, and past the system's cache, as far as that suffices. fs.ErrNotExist and io.ErrUnexpectedEOF
// say that the file is gone or cut, errRotten that the bytes are not what was written.
func (g *segments) read(at place, buf []byte) ([]byte, error) {
	given := cap(buf) >= int(at.size)
	buf = slices.Grow(buf[:0], int(at.size))[:at.size]
	if !given || !g.readPast(at, buf) {
		if err := g.readThrough(at, buf); err != nil {
			return nil, err
		}
	}
	if sumOf(buf) != at.sum {
		return nil, errRotten
	}
	return buf, nil
}

func (g *segments) readThrough(at place, buf []byte) error {
	file, err := g.fs.Open(g.path(at.segment))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err = file.ReadAt(buf, int64(at.offset)); err == io.EOF {
		return fmt.Errorf("%s: %w", g.path(at.segment), io.ErrUnexpectedEOF)
	}
	return err
}

// readPast is false where the file has to be read through the cache, which then also says why.
func (g *segments) readPast(at place, buf []byte) bool {
	if !fitsPast(buf, int64(at.offset)) {
		return false
	}
	file := openPast(g.fs, g.path(at.segment), false)
	if file == nil {
		return false
	}
	defer file.Close()
	_, err := file.ReadAt(buf, int64(at.offset))
	return err == nil
}

// abandon makes new blocks go to another file than this one, which is cut or gone.
func (g *segments) abandon(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if seg := g.active; seg != nil && seg.id == id {
		g.active = nil
		g.shut(seg)
	}
}

// close closes what is open. Nobody uses g any more.
func (g *segments) close() (err error) {
	for _, seg := range g.files {
		err = errors.Join(err, seg.close())
	}
	return err
}

// gone tells whether a read failed because the file is not what it was.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF)
}
