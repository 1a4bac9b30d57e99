//go:build !race

package coord

// raceEnabled: the race detector makes the machines about ten times slower, and they have no goroutines to race.
const raceEnabled = false
