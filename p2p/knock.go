package p2p

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// A private swarm's UDP port is deaf to who has not knocked: QUIC would show a stranger its certificate, and with it the
// peer ID. A knock is one datagram before each Initial packet of a dialer:
//
//	version u8 | seconds since 1970 u64 | nonce 16 | HMAC-SHA256(HMAC-SHA256(secret, "shoal knock 1"), all before), first 16 bytes
//
// It opens the port for the address it came from, whatever NATs made of that, for long enough to shake hands. Only packets
// with long headers, which are those of handshakes, are held back: connections stand when an address changes. Who lures a
// member into a dial gets a knock that is good at other members until it is too old, and for a peer ID there.
const (
	knockVersion = 1 // the two high bits are 0: no QUIC packet looks like it
	knockNonce   = 16
	knockTag     = 16
	knockSize    = 1 + 8 + knockNonce + knockTag

	knockWindow = 10 * time.Minute // clocks may differ by as much, as for memberships
	knockOpen   = time.Minute      // from a knock to the end of the handshake
	maxKnocks   = 4096             // of addresses, and of nonces; beyond, the table starts again from nothing
)

// knocks decides what passes a UDP socket. Methods may be called at the same time.
type knocks struct {
	key []byte

	mu     sync.Mutex                   // guards the rest
	in     map[netip.AddrPort]time.Time // when it knocked here
	out    map[netip.AddrPort]time.Time // when we knocked there
	nonces map[[knockNonce]byte]bool    // of knocks that counted: a recording opens nothing
	told   time.Time                    // when a refusal was last told
}

func newKnocks(secret []byte) *knocks {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("shoal knock 1"))
	return &knocks{key: m.Sum(nil), in: map[netip.AddrPort]time.Time{}, out: map[netip.AddrPort]time.Time{}, nonces: map[[knockNonce]byte]bool{}}
}

func (k *knocks) tag(b []byte) []byte {
	m := hmac.New(sha256.New, k.key)
	m.Write(b)
	return m.Sum(nil)[:knockTag]
}

// before returns the knock to send before packet, nil for none: only who opens a connection knocks.
func (k *knocks) before(packet []byte, to netip.AddrPort, now time.Time) []byte {
	if len(packet) == 0 || packet[0]&0xf0 != 0xc0 { // RFC 9000, section 17.2.2: a long header of type Initial
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.in[to]) < knockOpen {
		return nil
	}
	if len(k.out) >= maxKnocks {
		clear(k.out)
	}
	k.out[to] = now
	b := make([]byte, knockSize-knockTag, knockSize)
	b[0] = knockVersion
	binary.BigEndian.PutUint64(b[1:], uint64(now.Unix()))
	rand.Read(b[1+8:]) // never fails
	return append(b, k.tag(b)...)
}

// admit says whether QUIC may see packet.
func (k *knocks) admit(packet []byte, from netip.AddrPort, now time.Time) bool {
	if len(packet) > 0 && packet[0]&0x80 == 0 { // no long header
		if len(packet) == knockSize && packet[0] == knockVersion {
			k.heard(packet, from, now)
			return false
		}
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Sub(k.in[from]) < knockOpen || now.Sub(k.out[from]) < knockOpen
}

// tell says whether to tell a person that packet was not admitted: of a dialer's, once a minute.
func (k *knocks) tell(packet []byte, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(packet) == 0 || packet[0]&0xf0 != 0xc0 || now.Sub(k.told) < time.Minute {
		return false
	}
	k.told = now
	return true
}

// heard takes a knock.
func (k *knocks) heard(b []byte, from netip.AddrPort, now time.Time) {
	body := b[:knockSize-knockTag]
	if !hmac.Equal(k.tag(body), b[len(body):]) {
		return
	}
	age := now.Unix() - int64(binary.BigEndian.Uint64(b[1:]))
	if limit := int64(knockWindow / time.Second); age > limit || age < -limit {
		return
	}
	nonce := [knockNonce]byte(b[1+8:])
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.nonces[nonce] {
		return
	}
	if len(k.nonces) >= maxKnocks {
		clear(k.nonces)
	}
	if len(k.in) >= maxKnocks {
		clear(k.in)
	}
	k.nonces[nonce] = true
	k.in[from] = now
}
