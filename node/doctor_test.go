package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/config"
)

func TestWarnDisk(t *testing.T) {
	for free, want := range map[config.Bytes]string{diskReserve: "", diskReserve - 1: "free some space"} {
		var text bytes.Buffer
		warnDisk(slog.New(slog.NewTextHandler(&text, nil)), "home", free)
		if got := text.String(); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%d bytes free: %q, want %q", free, got, want)
		}
	}
}
