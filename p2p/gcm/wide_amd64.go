package gcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/cpu"
)

const (
	blockLen = 16
	group    = 256     // bytes that one turn of the assembly works on: 16 blocks
	shortest = 4 << 10 // bytes of the least message that is worth it
	stretch  = 8 << 10 // bytes that are passed over twice while they are in the first cache
	nonceLen = 12
	tagLen   = 16
)

// wide says whether this processor has the instructions of wide_amd64.s.
var wide = cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW &&
	cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ

// widened is an AEAD with a way of its own for messages that are long enough.
type widened struct {
	cipher.AEAD
	block  cipher.Block
	keys   [11 * blockLen]byte // of the rounds
	powers [group]byte         // of the hash's key, the 16th first, as mulHash makes them
}

func widen(plain cipher.AEAD, block cipher.Block, key []byte) cipher.AEAD {
	if !wide {
		return plain
	}
	w := &widened{AEAD: plain, block: block}
	expandKey(&w.keys, &key[0])
	w.fillPowers()
	return w
}

// fillPowers makes H to H^16 from H, the zero block's cipher.
func (w *widened) fillPowers() {
	var h [blockLen]byte
	w.block.Encrypt(h[:], h[:])
	// Bits of the hash go from the lowest of a byte up, and products come out shifted by one: both are put right in the
	// key, once (Gueron and Kounavis 2010, algorithm 5).
	hi, lo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	carry := hi >> 63
	hi, lo = hi<<1|lo>>63, lo<<1
	hi ^= -carry & 0xc200000000000000
	lo ^= carry
	at := func(power int) *byte { return &w.powers[group-power*blockLen] }
	first := w.powers[group-blockLen:]
	binary.LittleEndian.PutUint64(first, lo)
	binary.LittleEndian.PutUint64(first[8:], hi)
	for p := 2; p <= 16; p++ {
		mulHash(at(p), at(p-1), at(1))
	}
}

// Seal implements cipher.AEAD.
func (w *widened) Seal(dst, nonce, text, extra []byte) []byte {
	if len(text) < shortest || len(extra) > 0 || len(nonce) != nonceLen {
		return w.AEAD.Seal(dst, nonce, text, extra)
	}
	all := slices.Grow(dst, len(text)+tagLen)[:len(dst)+len(text)+tagLen]
	out := all[len(dst):]
	m := w.begin(nonce)
	for at := 0; at < len(text); at += stretch {
		end := min(at+stretch, len(text))
		m.crypt(out[at:end], text[at:end])
		m.add(out[at:end])
	}
	tag := m.tag(len(text))
	copy(out[len(text):], tag[:])
	return all
}

var errAuthentication = errors.New("gcm: message authentication failed")

// Open implements cipher.AEAD.
func (w *widened) Open(dst, nonce, box, extra []byte) ([]byte, error) {
	if len(box) < shortest+tagLen || len(extra) > 0 || len(nonce) != nonceLen {
		return w.AEAD.Open(dst, nonce, box, extra)
	}
	n := len(box) - tagLen
	all := slices.Grow(dst, n)[:len(dst)+n]
	out, m := all[len(dst):], w.begin(nonce)
	for at := 0; at < n; at += stretch {
		end := min(at+stretch, n)
		m.add(box[at:end])
		m.crypt(out[at:end], box[at:end])
	}
	tag := m.tag(n)
	if subtle.ConstantTimeCompare(tag[:], box[n:]) != 1 {
		clear(out)
		return nil, errAuthentication
	}
	return all, nil
}

// message is one message on its way through.
type message struct {
	w       *widened
	first   [blockLen]byte // the counter block whose cipher masks the tag
	counter [blockLen]byte // the next; its last four bytes are little-endian
	hash    [blockLen]byte // so far, turned around
	rest    [group]byte    // what did not fill a group, and zeros
	left    int            // bytes of it
}

func (w *widened) begin(nonce []byte) message {
	m := message{w: w}
	copy(m.first[:], nonce)
	m.counter = m.first
	m.first[blockLen-1] = 1
	m.counter[nonceLen] = 2
	return m
}

// crypt does dst = src ^ the cipher of counters. Only the last call may be of less than whole groups.
func (m *message) crypt(dst, src []byte) {
	n := len(src) / group
	if n > 0 {
		cryptGroups(&dst[0], &src[0], n, &m.w.keys, &m.counter)
	}
	if dst, src = dst[n*group:], src[n*group:]; len(src) > 0 {
		var b [group]byte
		copy(b[:], src)
		cryptGroups(&b[0], &b[0], 1, &m.w.keys, &m.counter)
		copy(dst, b[:])
	}
}

// add takes ciphertext into the hash. Only the last call may be of less than whole groups; what is over is kept.
func (m *message) add(b []byte) {
	n := len(b) / group
	if n > 0 {
		hashGroups(&m.hash, &m.w.powers, &b[0], n)
	}
	m.left = copy(m.rest[:], b[n*group:])
}

// tag ends the hash with what is left over and the length of the ciphertext, in bytes, and masks it. Those blocks are put at the end
// of a group, behind zeros, as if the hash so far had come in with the first of them.
func (m *message) tag(length int) (tag [tagLen]byte) {
	if m.left > group-blockLen { // they fill a group, and the length needs another
		hashGroups(&m.hash, &m.w.powers, &m.rest[0], 1)
		m.left = 0
	}
	blocks := (m.left+blockLen-1)/blockLen + 1
	var b [group]byte
	from := b[group-blocks*blockLen:]
	copy(from, m.rest[:m.left])
	binary.BigEndian.PutUint64(b[group-8:], uint64(length)*8)
	for i := range blockLen {
		from[i] ^= m.hash[blockLen-1-i]
	}
	m.hash = [blockLen]byte{}
	hashGroups(&m.hash, &m.w.powers, &b[0], 1)
	m.w.block.Encrypt(tag[:], m.first[:])
	for i := range tag {
		tag[i] ^= m.hash[blockLen-1-i]
	}
	return tag
}

// expandKey fills the round keys (FIPS 197, 5.2).
//
//go:noescape
func expandKey(keys *[11 * blockLen]byte, key *byte)

// mulHash does dst = a * b, all blocks of 16 bytes, in GF(2^128) as the hash's key is kept.
//
//go:noescape
func mulHash(dst, a, b *byte)

// cryptGroups does dst = src ^ the cipher of counters, n groups, and moves counter on.
//
//go:noescape
func cryptGroups(dst, src *byte, n int, keys *[11 * blockLen]byte, counter *[blockLen]byte)

// hashGroups takes n groups into hash.
//
//go:noescape
func hashGroups(hash *[blockLen]byte, powers *[group]byte, data *byte, n int)
