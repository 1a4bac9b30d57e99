//go:build !linux

package p2p

import (
	"errors"
	"time"
)

// setCongestion: other systems choose for themselves.
func setCongestion(uintptr, string) error { return nil }

func roundTrip(uintptr) time.Duration { return 0 }

func keepShort(uintptr, int) error { return errors.ErrUnsupported }
