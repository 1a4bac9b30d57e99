package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/membership"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Identity is a home's key, made when absent.
func Identity(home string) (ed25519.PrivateKey, error) {
	return p2p.LoadIdentity(filepath.Join(home, identityFile))
}

// openMembership loads this node's place in its swarm; nil: the swarm is open.
func (n *Node) openMembership() (*membership.Files, error) {
	if !membership.Has(n.cfg.Home, n.cfg.Swarm) {
		return nil, nil
	}
	key, err := Identity(n.cfg.Home)
	if err != nil {
		return nil, err
	}
	return membership.Open(n.cfg.Home, n.cfg.Swarm, key, time.Now)
}

// serveMembership starts what members tell each other.
func (n *Node) serveMembership(f *membership.Files) error {
	if f == nil {
		return nil
	}
	s, stop, err := membership.Serve(f, n.host, n.log, time.Now)
	if err != nil {
		return err
	}
	n.onClose(func() error { stop(); return nil })
	n.members = s
	return nil
}

// bootstrap is where to look for peers first: the configured ones, and those that came with the invite.
func (n *Node) bootstrap(f *membership.Files) []string {
	if f == nil {
		return n.cfg.Bootstrap
	}
	out := slices.Clone(n.cfg.Bootstrap)
	for _, a := range f.Start() {
		if id, err := p2p.SplitAddr(a); err == nil && id != f.Self() {
			out = append(out, a)
		}
	}
	return out
}

// cacheKey keeps the peers of each private swarm apart from all others.
func cacheKey(f *membership.Files) string {
	if f == nil {
		return "peers/cache"
	}
	return "peers/private/" + string(f.Identity().Root)
}

// maySubmit checks that a submitter may in this swarm.
func (n *Node) maySubmit(id record.PeerID, proof []byte) error {
	if n.members == nil {
		return nil
	}
	return n.members.MaySubmit(id, proof)
}

// proof is what shows others that a submitter may; empty in an open swarm.
func (n *Node) proof(id record.PeerID) []byte {
	if n.members == nil {
		return nil
	}
	return n.members.Proof(id)
}

// Swarm implements api.Swarm.
func (n *Node) Swarm(context.Context) (api.SwarmInfo, error) {
	if n.members == nil {
		return api.SwarmInfo{Name: n.cfg.Swarm}, nil
	}
	j, err := n.members.Describe()
	if err != nil {
		return api.SwarmInfo{}, err
	}
	v := api.SwarmInfo{
		Name: j.Name, Private: true, ID: string(j.Root), Role: j.Member.Role.String(), Until: j.Member.Until,
		Issuer: string(j.Member.Issuer), RootKey: j.HasRoot, Members: len(n.members.Roll().Members()), Revoked: len(n.members.Roll().Tombstones()),
	}
	if _, _, err := n.members.Roll().Member(n.host.ID()); err != nil {
		v.Problem = err.Error()
	}
	return v, nil
}

// Members implements api.Swarm.
func (n *Node) Members(context.Context) ([]api.SwarmMember, error) {
	if n.members == nil {
		return nil, errOpenSwarm(n.cfg.Swarm)
	}
	up := map[record.PeerID]bool{n.host.ID(): true}
	for _, p := range n.host.Peers() {
		up[p.ID] = p.Up
	}
	out := []api.SwarmMember{}
	for _, m := range n.members.Roll().Members() {
		out = append(out, api.SwarmMember{ID: string(m.ID), Role: m.Role.String(), Until: m.Until, Issuer: string(m.Issuer), Connected: up[m.ID], Self: m.ID == n.host.ID()})
	}
	slices.SortStableFunc(out, func(a, b api.SwarmMember) int { return -cmp.Compare(a.Role, b.Role) })
	return out, nil
}

// Invite implements api.Swarm.
func (n *Node) Invite(_ context.Context, r api.InviteRequest) (api.Invite, error) {
	if n.members == nil {
		return api.Invite{}, errOpenSwarm(n.cfg.Swarm)
	}
	role, err := swarm.ParseRole(cmp.Or(r.Role, swarm.Volunteer.String()))
	if err != nil {
		return api.Invite{}, api.BadRequest("%v", err)
	}
	if r.Expires < 0 || r.Expires > swarm.Validity.Seconds() {
		return api.Invite{}, api.BadRequest("expires after %.3g hours: want more than 0 and up to %.0f", r.Expires/3600, swarm.Validity.Hours())
	}
	token, v, err := n.members.Invite(role, r.Uses, time.Duration(r.Expires*float64(time.Second)))
	if err != nil {
		return api.Invite{}, api.BadRequest("%v", err)
	}
	return api.Invite{Token: token, ID: v.ID, Role: v.Role.String(), Uses: v.Uses, Until: v.Until}, nil
}

// Revoke implements api.Swarm.
func (n *Node) Revoke(ctx context.Context, id string) (api.Revoked, error) {
	if n.members == nil {
		return api.Revoked{}, errOpenSwarm(n.cfg.Swarm)
	}
	p, err := n.findMember(id)
	if err != nil {
		return api.Revoked{}, err
	}
	if p == n.host.ID() {
		return api.Revoked{}, api.BadRequest("this node cannot revoke itself; \"shoal swarm leave\" leaves the swarm")
	}
	gone, err := n.members.Revoke(ctx, p)
	if err != nil {
		return api.Revoked{}, api.BadRequest("%v", err)
	}
	v := api.Revoked{Members: []string{}}
	for _, g := range gone {
		v.Members = append(v.Members, string(g))
	}
	return v, nil
}

// findMember completes the last characters of a known member's ID; a whole ID need not be known.
func (n *Node) findMember(id string) (record.PeerID, error) {
	if _, err := record.PublicKey(record.PeerID(id)); err == nil {
		return record.PeerID(id), nil
	}
	var found []record.PeerID
	for _, m := range n.members.Roll().Members() {
		if part := strings.TrimPrefix(id, "…"); len(part) >= 6 && strings.HasSuffix(string(m.ID), part) {
			found = append(found, m.ID)
		}
	}
	if len(found) != 1 {
		return "", api.NotFound("%q fits %d members; give a whole peer ID of \"shoal swarm members\"", id, len(found))
	}
	return found[0], nil
}

func errOpenSwarm(name string) error {
	return api.BadRequest("the swarm %q is open: it has no members to admit; \"shoal swarm create NAME --private\" founds a private one", name)
}
