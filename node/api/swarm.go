package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Swarm is the node's place in its swarm. Inviting, revoking and the list of members need a private one.
type Swarm interface {
	Swarm(ctx context.Context) (SwarmInfo, error)
	Members(ctx context.Context) ([]SwarmMember, error)
	Invite(ctx context.Context, r InviteRequest) (Invite, error)
	Revoke(ctx context.Context, id string) (Revoked, error)
}

// SwarmInfo describes the swarm that the daemon is in; of an open one there is only the name.
type SwarmInfo struct {
	Name    string    `json:"name"`
	Private bool      `json:"private"`
	ID      string    `json:"id,omitempty"`       // peer ID of the root key
	Role    string    `json:"role,omitempty"`     // volunteer, submitter or admin
	Until   time.Time `json:"until,omitzero"`     // when this node's membership expires, unless renewed
	Issuer  string    `json:"issuer,omitempty"`   // who signed it
	RootKey bool      `json:"root_key,omitempty"` // this home holds the root key
	Members int       `json:"members,omitempty"`  // known here
	Revoked int       `json:"revoked,omitempty"`  // revocations known here
	Problem string    `json:"problem,omitempty"`  // why the membership does not hold any more
}

// SwarmMember is a member whose membership this node has seen and that holds now.
type SwarmMember struct {
	ID        string    `json:"id"`
	Role      string    `json:"role"`
	Until     time.Time `json:"until"`
	Issuer    string    `json:"issuer"`
	Connected bool      `json:"connected"`
	Self      bool      `json:"self,omitempty"`
}

// InviteRequest asks for an invite; what is zero has a default.
type InviteRequest struct {
	Role    string  `json:"role,omitempty"`    // default volunteer
	Uses    int     `json:"uses,omitempty"`    // how many nodes it admits; default 1
	Expires float64 `json:"expires,omitempty"` // seconds; default a week
}

// Invite is a new invite.
type Invite struct {
	Token string    `json:"token"`
	ID    string    `json:"id"`
	Role  string    `json:"role"`
	Uses  int       `json:"uses"`
	Until time.Time `json:"until"`
}

// Revoked lists who is out by a revocation: the member, and whom it had admitted.
type Revoked struct {
	Members []string `json:"members"`
}

func (s *Server) swarmRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/swarm", answer(func(r *http.Request) (SwarmInfo, error) { return s.Swarm.Swarm(r.Context()) }))
	mux.Handle("GET /api/v1/swarm/members", answer(func(r *http.Request) ([]SwarmMember, error) {
		return s.Swarm.Members(r.Context())
	}))
	mux.Handle("POST /api/v1/swarm/invites", answer(func(r *http.Request) (Invite, error) {
		var v InviteRequest
		if err := readBody(r, &v); err != nil {
			return Invite{}, err
		}
		return s.Swarm.Invite(r.Context(), v)
	}))
	mux.Handle("DELETE /api/v1/swarm/members/{id}", answer(func(r *http.Request) (Revoked, error) {
		return s.Swarm.Revoke(r.Context(), r.PathValue("id"))
	}))
}

// Swarm describes the daemon's swarm.
func (c *Client) Swarm(ctx context.Context) (v SwarmInfo, err error) {
	return v, c.get(ctx, "swarm", &v)
}

// Members lists the members of a private swarm that the daemon knows.
func (c *Client) Members(ctx context.Context) (v []SwarmMember, err error) {
	return v, c.get(ctx, "swarm/members", &v)
}

// Invite makes an invite into the daemon's private swarm.
func (c *Client) Invite(ctx context.Context, r InviteRequest) (v Invite, err error) {
	return v, c.call(ctx, http.MethodPost, "swarm/invites", r, &v)
}

// Revoke voids a membership.
func (c *Client) Revoke(ctx context.Context, id string) (v Revoked, err error) {
	return v, c.call(ctx, http.MethodDelete, "swarm/members/"+url.PathEscape(id), nil, &v)
}
