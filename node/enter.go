package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/membership"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// CreateSwarm founds a private swarm in a home, or chooses an open one by name, and makes it the home's swarm.
func CreateSwarm(home, name string, private bool) (membership.Joined, error) {
	if _, err := Init(home); err != nil {
		return membership.Joined{}, err
	}
	j := membership.Joined{Identity: swarm.Identity{Name: name}}
	err := swarm.CheckName(name)
	if err == nil && private {
		key, err := Identity(home)
		if err != nil {
			return j, err
		}
		if j, err = membership.Create(home, name, key, time.Now()); err != nil {
			return j, err
		}
	}
	if err != nil {
		return j, err
	}
	return j, enter(home, name)
}

// JoinSwarm takes a home into a private swarm with an invite, and makes it the home's swarm.
func JoinSwarm(ctx context.Context, home, token string, log *slog.Logger) (membership.Joined, error) {
	if _, err := Init(home); err != nil {
		return membership.Joined{}, err
	}
	key, err := Identity(home)
	if err != nil {
		return membership.Joined{}, err
	}
	j, err := membership.Join(ctx, home, token, key, log)
	if err != nil {
		return j, err
	}
	return j, enter(home, j.Name)
}

// LeaveSwarm forgets a private swarm; the home is in the public one then, if it was in that one.
func LeaveSwarm(home, name string) error {
	if err := membership.Leave(home, name); err != nil {
		return err
	}
	path := filepath.Join(home, config.SwarmFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(data)) != name {
		return nil
	}
	return errors.Join(err, os.Remove(path))
}

// enter makes name the swarm that the home's daemon starts in.
func enter(home, name string) error {
	return replace(filepath.Join(home, config.SwarmFile), []byte(name+"\n"), 0o600)
}
