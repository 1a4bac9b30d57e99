package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func env(pairs map[string]string) func(string) string {
	return func(k string) string { return pairs[k] }
}

func TestLayers(t *testing.T) {
	home := t.TempDir()
	file := "device: cpu\nmax_memory: 6GiB\nlisten: [/ip4/127.0.0.1/tcp/0]\nswarm: lab\n"
	if err := os.WriteFile(filepath.Join(home, File), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	e := env(map[string]string{"SHOAL_SWARM": "fromenv", "SHOAL_MDNS": "false", "SHOAL_BOOTSTRAP": "/ip4/1.2.3.4/tcp/1/p2p/A,/ip4/1.2.3.4/tcp/2/p2p/B"})
	got, err := Load(home, e, map[string][]string{"swarm": {"fromflag"}, "api_addr": {"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Home, want.Device, want.MaxMemory = home, "cpu", 6<<30
	want.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	want.Bootstrap = []string{"/ip4/1.2.3.4/tcp/1/p2p/A", "/ip4/1.2.3.4/tcp/2/p2p/B"}
	want.MDNS, want.Swarm, want.APIAddr = false, "fromflag", "127.0.0.1:0"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		file  string
		flags map[string][]string
		want  string
	}{
		"unknown key":       {file: "devise: cpu\n", want: "devise"},
		"bad yaml":          {file: "listen: [", want: File},
		"empty list":        {file: "listen: []\n", want: "at least one"},
		"size":              {file: "max_disk: lots\n", want: "6GiB"},
		"negative size":     {file: "max_disk: -1\n", want: "6GiB"},
		"huge":              {file: "# " + strings.Repeat("x", maxFile), want: "larger"},
		"api":               {flags: map[string][]string{"api_addr": {"localhost"}}, want: "host:port"},
		"listen":            {flags: map[string][]string{"listen": {"0.0.0.0:1"}}, want: "multiaddr"},
		"bootstrap no id":   {flags: map[string][]string{"bootstrap": {"/ip4/1.2.3.4/tcp/1"}}, want: "/p2p/"},
		"swarm":             {flags: map[string][]string{"swarm": {"My Swarm"}}, want: "a-z"},
		"reachability":      {flags: map[string][]string{"reachability": {"maybe"}}, want: "auto, public or private"},
		"relay":             {flags: map[string][]string{"relay": {"yes"}}, want: "on or off"},
		"profile":           {flags: map[string][]string{"profile": {"turbo"}}, want: "lowpower"},
		"announce":          {flags: map[string][]string{"announce": {"example.org"}}, want: "multiaddr"},
		"announce private":  {flags: map[string][]string{"announce": {"/ip4/1.2.3.4/tcp/1"}, "reachability": {"private"}}, want: "contradicts"},
		"mdns":              {flags: map[string][]string{"mdns": {"perhaps"}}, want: "--mdns"},
		"many":              {flags: map[string][]string{"listen": make([]string, 65)}, want: "at most 64"},
		"negative max jobs": {flags: map[string][]string{"max_jobs": {"-1"}}, want: "max_jobs"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, File), []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(home, env(nil), tc.flags)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// The sample must be what it says: all defaults, and valid once its comments are taken away.
func TestSample(t *testing.T) {
	for _, text := range []string{Sample(), uncommented(Sample())} {
		c := Default()
		if err := c.parse([]byte(text)); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if d := cmp.Diff(Default(), c, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); d != "" {
			t.Error(d)
		}
	}
}

// uncommented takes the leading # away from every line but the first.
func uncommented(s string) string {
	_, keys, _ := strings.Cut(s, "\n")
	return strings.TrimPrefix(strings.ReplaceAll("\n"+keys, "\n# ", "\n"), "\n")
}

func TestHome(t *testing.T) {
	for _, tc := range []struct{ flag, env, want string }{{"/a", "/b", "/a"}, {"", "/b", "/b"}} {
		if got, err := Home(tc.flag, env(map[string]string{"SHOAL_HOME": tc.env})); err != nil || got != tc.want {
			t.Errorf("Home(%q, %q) = %q, %v", tc.flag, tc.env, got, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(Sample()))
	f.Add([]byte("listen: [a, b]\nmax_disk: 1e309GiB\n"))
	f.Add([]byte("{\"device\": \"cpu\", max_jobs: 99999999999999999999}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Default()
		if c.parse(data) == nil {
			_ = c.Validate()
		}
	})
}
