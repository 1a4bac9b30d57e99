package shard_test

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/store/storetest"
)

func TestMem(t *testing.T) {
	storetest.Run(t, func(*testing.T) shard.Store { return shard.NewMem() })
}
