// Package gcm is AES-128-GCM (NIST SP 800-38D) for records of some kilobytes. It gives the bytes that crypto/cipher gives,
// and is crypto/cipher's where the processor lacks VAES and VPCLMULQDQ over 512 bits, for short messages and for messages
// with additional data. With them it is about twice as fast.
//
// What depends on the key or the text is done by instructions whose time does not depend on their operands. An AEAD is safe
// for concurrent use; what it writes to must either be apart from what it reads or begin at the same byte.
package gcm

import (
	"crypto/aes"
	"crypto/cipher"
)

// New returns the AEAD of a key of 16 bytes.
func New(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain, err := cipher.NewGCM(block)
	if err != nil || len(key) != 16 {
		return plain, err
	}
	return widen(plain, block, key), nil
}
