package swarm

import (
	"fmt"
	"slices"
)

// Role is what a member of a private swarm may do. Each role may do what the ones before it may.
type Role uint8

const (
	Volunteer Role = 1 // works on jobs of others
	Submitter Role = 2 // submits jobs
	Admin     Role = 3 // invites and revokes
)

var roleNames = []string{Volunteer: "volunteer", Submitter: "submitter", Admin: "admin"}

func (r Role) valid() bool { return r >= Volunteer && r <= Admin }

func (r Role) String() string {
	if !r.valid() {
		return fmt.Sprintf("role %d", uint8(r))
	}
	return roleNames[r]
}

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	if i := slices.Index(roleNames, s); i > 0 {
		return Role(i), nil
	}
	return 0, fmt.Errorf("role %q: want volunteer, submitter or admin", s)
}
