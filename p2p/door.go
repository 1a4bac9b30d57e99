package p2p

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Door guards a private swarm. Every connection, in both directions, begins with an exchange of credentials inside the
// encrypted channel, before streams, identify or anything else of ours; who fails it sees the connection end.
// swarm.Membership is a member's door, swarm.Guest that of a node on its way in.
type Door interface {
	swarm.Gate
	// Secret is known to members and the invited; it keeps credentials from strangers, and admits nobody.
	Secret() []byte
	// Credential is what this node shows when it dials as the given identity: its own, or one it made for a test.
	Credential(as record.PeerID) ([]byte, error)
	// Judge decides about a dialer's credential and returns what to show it. An error beside an answer: answer, then hang up,
	// as to a guest (swarm.ErrGuest) and to who was revoked. Without an answer the dialer sees the end alone.
	Judge(from record.PeerID, credential []byte) (answer []byte, err error)
	// Welcome decides about the answer of a peer that this node dialed; swarm.ErrRevoked: it says that this node is out.
	Welcome(from record.PeerID, answer []byte) error
}

const (
	doorTimeout = 10 * time.Second // of the whole exchange
	doorVersion = 1
	doorNonce   = 32
)

// errShut is all that a stranger's side shows of a refusal: the connection ends.
var errShut = errors.New("the node there did not admit this node: it is in another swarm, or this node's membership or invite does not hold there (expired or used up, or the clocks of the two differ)")

// errLeft says that a dialer hung up before it showed anything, as when another of its dials to this node was quicker.
var errLeft = errors.New("the dialer hung up before it showed a credential")

// left tells a dialer that hung up from one that is too slow.
func left(err error) error {
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return fmt.Errorf("no credential came: %w", err)
	}
	return fmt.Errorf("%w: %w", errLeft, err)
}

// doorkeeper runs the exchange for one host. Two messages, each sealed with a key that only who knows the secret can
// derive, and which is bound to both identities and fresh nonces:
//
//	dialer:   version u8 | nonce 32 | length u16 | AES-256-GCM(credential)
//	listener: nonce 32 | length u16 | AES-256-GCM(answer)
//
// The keys are HMAC-SHA256(secret, "shoal door 1 dial" | dialer | listener | nonce), and for the answer "… answer" with
// both nonces. So somebody who lures a member into a dial learns no name, and what was recorded cannot be shown again.
type doorkeeper struct {
	door   Door
	plain  func(protocol.ID, crypto.PrivKey, []upgrader.StreamMuxer) (metered, error)
	refuse func(id record.PeerID, why error) // tells the log
	self   record.PeerID                     // the host's; AutoNAT dials under another
	probes func() (*quicreuse.ConnManager, error)
}

// failed tells the log how an exchange ended, unless this node gave it up itself: of several dials at once one wins.
func (d *doorkeeper) failed(ctx context.Context, other record.PeerID, err error) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		d.refuse(other, err)
	}
}

// enter is the dialing side.
func (d *doorkeeper) enter(rw io.ReadWriter, self, to record.PeerID) error {
	cred, err := d.door.Credential(self)
	if err != nil {
		return err
	}
	mine := newNonce()
	b, err := seal(d.key("dial", self, to, mine), cred)
	if err != nil {
		return err
	}
	if _, err := rw.Write(append(append([]byte{doorVersion}, mine...), b...)); err != nil {
		return errShut
	}
	theirs := make([]byte, doorNonce)
	if _, err := io.ReadFull(rw, theirs); err != nil {
		return errShut
	}
	answer, err := d.unseal(rw, d.key("answer", self, to, append(mine, theirs...)))
	if err != nil {
		return fmt.Errorf("the node there is not of this swarm: %w", err)
	}
	return d.door.Welcome(to, answer)
}

// receive is the listening side.
func (d *doorkeeper) receive(rw io.ReadWriter, self, from record.PeerID) error {
	head := make([]byte, 1+doorNonce)
	if _, err := io.ReadFull(rw, head); err != nil {
		return left(err)
	}
	if head[0] != doorVersion {
		return fmt.Errorf("credential of version %d, this node knows %d", head[0], doorVersion)
	}
	theirs := head[1:]
	cred, err := d.unseal(rw, d.key("dial", from, self, theirs))
	if err != nil {
		return fmt.Errorf("a stranger, who does not know the swarm's secret: %w", err)
	}
	answer, verdict := d.door.Judge(from, cred)
	if verdict != nil && answer == nil {
		return verdict
	}
	mine := newNonce()
	b, err := seal(d.key("answer", from, self, append(theirs[:doorNonce:doorNonce], mine...)), answer)
	if err != nil {
		return err
	}
	if _, err := rw.Write(append(mine, b...)); err != nil {
		return err
	}
	if verdict != nil {
		io.CopyN(io.Discard, rw, 1) // until the other side hangs up: a close here might overtake the answer
	}
	return verdict
}

func newNonce() []byte {
	b := make([]byte, doorNonce, 2*doorNonce)
	rand.Read(b) // never fails
	return b
}

func (d *doorkeeper) key(what string, dialer, listener record.PeerID, nonces []byte) []byte {
	m := hmac.New(sha256.New, d.door.Secret())
	fmt.Fprintf(m, "shoal door 1 %s\x00%s\x00%s\x00", what, dialer, listener)
	m.Write(nonces)
	return m.Sum(nil)
}

// seal encrypts with a key that is used once, so the GCM nonce may be zero.
func seal(key, plain []byte) ([]byte, error) {
	if len(plain) > swarm.MaxCredential {
		return nil, fmt.Errorf("credential of %d bytes, limit %d", len(plain), swarm.MaxCredential)
	}
	c, err := aead(key)
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(len(plain)+c.Overhead()))
	return c.Seal(out, make([]byte, c.NonceSize()), plain, nil), nil
}

func (d *doorkeeper) unseal(r io.Reader, key []byte) ([]byte, error) {
	c, err := aead(key)
	if err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < c.Overhead() || n > swarm.MaxCredential+c.Overhead() {
		return nil, fmt.Errorf("sealed message of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return c.Open(b[:0], make([]byte, c.NonceSize()), b, nil)
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// securityName is what TCP connections and relayed ones ask for instead of "/tls/1.0.0". Who does not know the secret
// asks for a protocol that is not there and never gets to see a certificate, so not even this node's identity.
func securityName(door Door) string {
	m := hmac.New(sha256.New, door.Secret())
	m.Write([]byte("shoal security 1"))
	return fmt.Sprintf("/shoal/%x/1", m.Sum(nil)[:16])
}

// doorTLS is TLS with the exchange at its end. It serves everything that is upgraded: TCP, and circuits over relays.
type doorTLS struct {
	sec.SecureTransport
	keeper *doorkeeper
}

func (d *doorkeeper) newTLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*doorTLS, error) {
	t, err := d.plain(id, key, muxers)
	return &doorTLS{t, d}, err
}

// SecureInbound implements sec.SecureTransport.
func (t *doorTLS) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := t.SecureTransport.SecureInbound(ctx, insecure, p)
	if err != nil {
		return nil, err
	}
	return t.finish(ctx, c, t.keeper.receive)
}

// SecureOutbound implements sec.SecureTransport.
func (t *doorTLS) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := t.SecureTransport.SecureOutbound(ctx, insecure, p)
	if err != nil {
		return nil, err
	}
	return t.finish(ctx, c, t.keeper.enter)
}

func (t *doorTLS) finish(ctx context.Context, c sec.SecureConn, side func(rw io.ReadWriter, self, other record.PeerID) error) (sec.SecureConn, error) {
	c.SetDeadline(time.Now().Add(doorTimeout))
	other := record.PeerID(c.RemotePeer().String())
	if err := side(c, record.PeerID(c.LocalPeer().String()), other); err != nil {
		t.keeper.failed(ctx, other, err)
		c.Close()
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}

// doorShut stands where the security protocol of open swarms would be, so that the log can tell of those who ask for
// it. They get nothing.
type doorShut struct {
	id     protocol.ID
	keeper *doorkeeper
}

func (d *doorkeeper) newShut(id protocol.ID) *doorShut { return &doorShut{id, d} }

// ID implements sec.SecureTransport.
func (t *doorShut) ID() protocol.ID { return t.id }

// SecureInbound implements sec.SecureTransport.
func (t *doorShut) SecureInbound(_ context.Context, c net.Conn, _ peer.ID) (sec.SecureConn, error) {
	err := fmt.Errorf("a stranger at %s, who does not know the swarm's secret", c.RemoteAddr())
	t.keeper.refuse("", err)
	return nil, err
}

// SecureOutbound implements sec.SecureTransport.
func (t *doorShut) SecureOutbound(context.Context, net.Conn, peer.ID) (sec.SecureConn, error) {
	return nil, errors.New("the node there is not of this private swarm")
}
