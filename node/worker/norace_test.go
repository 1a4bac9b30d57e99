//go:build !race

package worker

// raceEnabled: the race detector makes training about ten times slower.
const raceEnabled = false
