//go:build !unix

package cpubench

import "time"

// processorTime stands in wall time where the system is not asked for anything finer.
func processorTime() func() time.Duration { return wallTime() }
