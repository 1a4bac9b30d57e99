//go:build !linux

package trainbench

import "time"

// processorTime stays zero where the system is not asked.
func processorTime() time.Duration { return 0 }

func resident() int64 { return 0 }

func peak() int64 { return 0 }
