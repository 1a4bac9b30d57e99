// Package twohash computes SHA-256 of two messages at once.
//
// The instructions that processors have for SHA-256 wait for each other's results within one message: they are busy for
// half of the time. With the rounds of a second message in between, two messages take little longer than one. Where
// there are no such instructions the two are hashed one after the other.
package twohash

import "crypto/sha256"

// Sum returns the SHA-256 of a and of b. Only messages of one length gain by it.
func Sum(a, b []byte) (x, y [sha256.Size]byte) {
	if !available || len(a) != len(b) || len(a) < sha256.BlockSize {
		return sha256.Sum256(a), sha256.Sum256(b)
	}
	return sum(a, b)
}
