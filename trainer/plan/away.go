package plan

// away is the memory that a member of r takes for weights with zero: 3, bytes: two units and the gradient of one, which
// largest bounds; what an adapter has on the device; the state of owned chunks, old and new, unless it lies on disk; and what
// adding up holds of a round: the result, everybody's numbers for the owned chunks, and their sums. The weights, the
// contribution and the result that is being put in place lie in files.
func away(j Job, s Stage, r int64, w Want) int64 {
	_, learns := j.weights(s.Lo, s.Hi)
	held := 2*j.largest(s.Lo, s.Hi) + 8*learns + 8*learns/r
	if j.Adapter {
		held += int64(j.PerLearned-j.State) * learns
	}
	if w.Offload != "disk" {
		held += 2 * int64(j.State) * learns / r
	}
	return held
}
