// Package xfer moves bulk bytes, mostly tensors, between peers: transfers of up to 1 MiB with a receipt each.
//
// A transfer is a few bytes of meta, which say what it is, and a payload. The sender keeps lanes open to each peer it
// sends to: long-lived streams, one for small transfers (they never queue behind bulk) and one or two for bulk. On a lane the
// sender writes hello, then for each transfer open, meta and data in parts of at most 128 KiB; it goes on with the next
// transfer without waiting. The receiver asks the service that a transfer is for before it reads the payload: it gets
// the memory to read into, or a refusal, so nothing unwanted is ever buffered. When the service is done with the
// payload the transfer gets its receipt. A receipt with code 0 means delivered and taken; that a Write returned means
// nothing.
//
// Flow control: the bytes of transfers opened without a receipt stay within the lane's window, which the receiver sets
// and enforces. Windows are taken from one budget of memory, so a receiver is bounded however many peers send. A lane
// on which nothing is heard for longer than its measured rate explains is reset, its transfers fail, and the caller
// sends again what still matters. Nothing is retried here. Transfers may overtake each other.
//
// Frames are in header.go. Whatever breaks the protocol resets the lane. All methods are safe for concurrent use.
package xfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Stream is an ordered, encrypted byte stream to one peer, as p2p.Stream is.
type Stream interface {
	io.ReadWriteCloser
	Peer() record.PeerID
	Reset() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Config says how an Xfer works. Open is required, the rest has defaults.
type Config struct {
	Open      func(ctx context.Context, to record.PeerID) (Stream, error) // a new stream for Protocol
	BulkLanes int                                                         // to each peer; default 2
	Memory    int                                                         // bytes that all peers may have on their way to here; default 256 MiB
	Patience  time.Duration                                               // least time without a sign of life before a lane is given up; default 5 s
	Log       *slog.Logger
}

// Code is a service's answer to a transfer: Taken, or a refusal whose meaning is the service's.
type Code uint8

// Taken is the receipt of a delivered transfer. Codes from CodeNoService on are this package's own.
const (
	Taken         Code = 0
	CodeNoService Code = 255 // nobody handles this service here
	CodeBroken    Code = 254 // the sender canceled
)

// Refused is the error of a transfer that the receiver did not take.
type Refused struct{ Code Code }

func (r Refused) Error() string {
	if r.Code == CodeNoService {
		return "transfer refused: the peer does not handle it (yet)"
	}
	return fmt.Sprintf("transfer refused with code %d", r.Code)
}

// ErrCanceled is the error of a transfer whose payload was no longer there.
var ErrCanceled = errors.New("transfer canceled")

// Service takes transfers of one kind.
type Service interface {
	// Offer is asked before the payload of size bytes is read. It returns where to put it; or nil and the code that is
	// the receipt (Taken when the payload is here already). meta is only valid during the call.
	Offer(from record.PeerID, meta []byte, size int) (Delivery, Code)
}

// Delivery is one transfer on its way in. Exactly one of Done and Drop is called, from the lane's goroutine.
type Delivery interface {
	Buffer() []byte          // size bytes to read into
	Done(receipt func(Code)) // the payload is complete; receipt must be called once, by anybody, whenever it is known
	Drop()                   // the payload will not come
}

// Transfer is one payload on its way out.
type Transfer struct {
	Service uint8
	Meta    []byte
	Size    int
	Unit    int  // bytes; parts are cut at multiples of it; default 8
	Spare   bool // bulk: Later if the peer is far away
	Later   bool // whatever else waits, for any peer, goes first; of a small transfer: for this peer
	// Read copies the part of the payload from off on into dst; false cancels the transfer.
	Read func(dst []byte, off int) bool
	// Lend, where it is not nil, is called instead of Read: it calls use with the part [lo, hi) of the payload, which must not
	// change before use returns; that does not wait for the network.
	Lend func(lo, hi int, use func(part []byte)) bool
	// Done is called once: nil when the receiver took it, Refused, ErrCanceled or what happened to the lane.
	Done func(error)
}

// Xfer is a node's part in all transfers.
type Xfer struct {
	cfg Config
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup

	patient patient

	mu       sync.Mutex // guards the rest
	closed   bool
	services map[uint8]Service
	peers    map[record.PeerID]*peer
	streams  map[Stream]bool // being served
	served   map[record.PeerID]int
	free     int // of cfg.Memory
}

// New returns an Xfer. Serve must be called with every stream that peers open for Protocol.
func New(cfg Config) *Xfer {
	if cfg.BulkLanes == 0 {
		cfg.BulkLanes = 2
	}
	if cfg.Memory == 0 {
		cfg.Memory = 256 << 20
	}
	if cfg.Patience == 0 {
		cfg.Patience = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	x := &Xfer{cfg: cfg, services: map[uint8]Service{}, peers: map[record.PeerID]*peer{}, streams: map[Stream]bool{},
		served: map[record.PeerID]int{}, free: cfg.Memory}
	x.ctx, x.end = context.WithCancel(context.Background())
	return x
}

// Handle makes s the service of a number. Transfers for numbers nobody handles are refused with CodeNoService.
func (x *Xfer) Handle(service uint8, s Service) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.services[service] = s
}

func (x *Xfer) service(n uint8) Service {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.services[n]
}

// Send takes a transfer on its way and returns at once. What is queued costs no memory but its own; how much that may
// be is the caller's business.
func (x *Xfer) Send(to record.PeerID, t *Transfer) {
	if t.Size < 0 || t.Size > MaxTransfer || len(t.Meta) > MaxMeta {
		panic(fmt.Sprintf("xfer: transfer of %d bytes with %d of meta", t.Size, len(t.Meta)))
	}
	p := x.peer(to)
	if p == nil {
		t.Done(errClosed)
		return
	}
	p.push(t)
}

var errClosed = errors.New("this node's transfers are closed")

func (x *Xfer) peer(id record.PeerID) *peer {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	if x.peers[id] == nil {
		x.peers[id] = newPeer(x, id)
	}
	return x.peers[id]
}

// spawn runs fn on a goroutine that Close waits for; false: closed.
func (x *Xfer) spawn(fn func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.wg.Go(fn)
	return true
}

// Close resets all lanes, fails what is queued and waits for every goroutine and for every Serve.
func (x *Xfer) Close() {
	x.mu.Lock()
	x.closed = true
	x.end()
	for s := range x.streams {
		s.Reset()
	}
	x.mu.Unlock()
	x.wg.Wait() // lanes fail what is queued
}
