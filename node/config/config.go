// Package config is what a person decides about a node: one Config, made from defaults, the file config.yaml in the
// node's home, SHOAL_* environment variables and command line flags, each overriding what came before.
//
// A Config is plain data. Load returns it complete and checked; nothing changes it afterwards, so it may be read from
// any goroutine.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Files inside a home.
const (
	File      = "config.yaml"
	SwarmFile = "swarm" // name of the swarm that "shoal swarm create" or "join" entered; the configuration overrides it
)

// Config says how a node runs. The zero value is not useful: see Default.
type Config struct {
	Home string `yaml:"-"` // directory of everything the node keeps

	Name      string   `yaml:"name"`      // what others see beside the peer ID; may be empty
	APIAddr   string   `yaml:"api_addr"`  // host:port of the local API; port 0 picks a free one
	Listen    []string `yaml:"listen"`    // multiaddrs to accept peers on
	Bootstrap []string `yaml:"bootstrap"` // multiaddrs with /p2p/, dialled until they answer
	MDNS      bool     `yaml:"mdns"`      // find peers on the local network
	Swarm     string   `yaml:"swarm"`     // name of the swarm; nodes of different swarms do not see each other
	Device    string   `yaml:"device"`    // auto, cpu, cpu:generic, cpu:avx2, cuda:0, …
	Network   `yaml:",inline"`
	Limits    `yaml:",inline"`
}

// Default is a volunteer's node: everything on, the API on loopback only.
func Default() Config {
	return Config{
		APIAddr: "127.0.0.1:4480",
		Listen:  []string{"/ip4/0.0.0.0/tcp/4481", "/ip4/0.0.0.0/udp/4481/quic-v1", "/ip6/::/tcp/4481", "/ip6/::/udp/4481/quic-v1"},
		MDNS:    true,
		Swarm:   "public",
		Device:  "auto",
		Network: DefaultNetwork(),
		Limits:  Limits{MaxJobs: 1},
	}
}

// Home picks the home directory: the flag, then $SHOAL_HOME, then ~/.shoal.
func Home(flag string, env func(string) string) (string, error) {
	for _, h := range []string{flag, env("SHOAL_HOME")} {
		if h != "" {
			return filepath.Abs(h)
		}
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no home directory: %w; set SHOAL_HOME or pass --home", err)
	}
	return filepath.Join(user, ".shoal"), nil
}

// Load reads the configuration of home. flags holds the settings given on the command line under the names of the
// file's keys; a list setting may have several values.
func Load(home string, env func(string) string, flags map[string][]string) (Config, error) {
	c := Default()
	c.Home = home
	if err := c.readSwarm(filepath.Join(home, SwarmFile)); err != nil {
		return c, err
	}
	if err := c.readFile(filepath.Join(home, File)); err != nil {
		return c, err
	}
	if err := c.readFile(filepath.Join(home, LimitsFile)); err != nil {
		return c, err
	}
	for _, s := range settings {
		name := "SHOAL_" + strings.ToUpper(s.key)
		if v := env(name); v != "" {
			if err := s.set(&c, strings.Split(v, ",")); err != nil {
				return c, fmt.Errorf("environment %s: %w", name, err)
			}
		}
	}
	for _, s := range settings {
		if v, ok := flags[s.key]; ok {
			if err := s.set(&c, v); err != nil {
				return c, fmt.Errorf("--%s: %w", strings.ReplaceAll(s.key, "_", "-"), err)
			}
		}
	}
	return c, c.Validate()
}

// setting is one key as text, the way environment and flags give it.
type setting struct {
	key string
	set func(*Config, []string) error
}

var settings = []setting{
	{"name", text(func(c *Config) *string { return &c.Name })},
	{"api_addr", text(func(c *Config) *string { return &c.APIAddr })},
	{"listen", list(func(c *Config) *[]string { return &c.Listen })},
	{"bootstrap", list(func(c *Config) *[]string { return &c.Bootstrap })},
	{"mdns", flag(func(c *Config) *bool { return &c.MDNS })},
	{"swarm", text(func(c *Config) *string { return &c.Swarm })},
	{"device", text(func(c *Config) *string { return &c.Device })},
	{"internet", flag(func(c *Config) *bool { return &c.Internet })},
	{"announce", list(func(c *Config) *[]string { return &c.Announce })},
	{"reachability", text(func(c *Config) *string { return &c.Reachability })},
	{"relay", text(func(c *Config) *string { return &c.Relay })},
	{"profile", text(func(c *Config) *string { return &c.Profile })},
	{"max_up", parsed(func(c *Config) *Rate { return &c.MaxUp }, ParseRate)},
	{"max_down", parsed(func(c *Config) *Rate { return &c.MaxDown }, ParseRate)},
	{"max_cpu", parsed(func(c *Config) *Percent { return &c.MaxCPU }, ParsePercent)},
	{"schedule", parsed(func(c *Config) *Schedule { return &c.Schedule }, ParseSchedule)},
	{"max_jobs", func(c *Config, v []string) (err error) { c.MaxJobs, err = strconv.Atoi(last(v)); return err }},
	{"max_memory", parsed(func(c *Config) *Bytes { return &c.MaxMemory }, ParseBytes)},
	{"max_disk", parsed(func(c *Config) *Bytes { return &c.MaxDisk }, ParseBytes)},
	{"max_gpu_memory", parsed(func(c *Config) *Bytes { return &c.MaxGPUMemory }, ParseBytes)},
	{"max_gpu_power", func(c *Config, v []string) (err error) { c.MaxGPUPower, err = strconv.Atoi(last(v)); return err }},
	{"max_gpu_temp", func(c *Config, v []string) (err error) { c.MaxGPUTemp, err = strconv.Atoi(last(v)); return err }},
}

func text(field func(*Config) *string) func(*Config, []string) error {
	return func(c *Config, v []string) error { *field(c) = last(v); return nil }
}

func list(field func(*Config) *[]string) func(*Config, []string) error {
	return func(c *Config, v []string) error { *field(c) = v; return nil }
}

func flag(field func(*Config) *bool) func(*Config, []string) error {
	return func(c *Config, v []string) (err error) { *field(c), err = strconv.ParseBool(last(v)); return err }
}

func parsed[T any](field func(*Config) *T, parse func(string) (T, error)) func(*Config, []string) error {
	return func(c *Config, v []string) (err error) { *field(c), err = parse(last(v)); return err }
}

func last(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[len(v)-1]
}

var swarmName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// deviceName is a device, and what is chosen of it; the device itself knows whether that is there.
var deviceName = regexp.MustCompile(`^(auto|cpu(:[a-z0-9]+)?|cuda(:[0-9]{1,2}(,[0-9]{1,2}){0,15})?)$`)

// Validate refuses values that cannot work and says what to write instead.
func (c *Config) Validate() error {
	if _, port, err := net.SplitHostPort(c.APIAddr); err != nil || !isPort(port) {
		return fmt.Errorf("api_addr %q: want host:port, for example 127.0.0.1:4480", c.APIAddr)
	}
	if len(c.Listen) == 0 {
		return errors.New("listen: want at least one multiaddr, for example /ip4/0.0.0.0/tcp/4481")
	}
	for key, addrs := range map[string][]string{"listen": c.Listen, "bootstrap": c.Bootstrap} {
		if len(addrs) > 64 {
			return fmt.Errorf("%s: %d addresses, at most 64", key, len(addrs))
		}
		for _, a := range addrs {
			if !strings.HasPrefix(a, "/") {
				return fmt.Errorf("%s: %q is not a multiaddr (/ip4/1.2.3.4/tcp/4481…)", key, a)
			}
		}
	}
	for _, b := range c.Bootstrap {
		if !strings.Contains(b, "/p2p/") {
			return fmt.Errorf("bootstrap: %q lacks the peer's id: append /p2p/<id> (shoal status prints it there)", b)
		}
	}
	if err := c.Network.validate(); err != nil {
		return err
	}
	switch {
	case !swarmName.MatchString(c.Swarm):
		return fmt.Errorf("swarm %q: use up to 63 of a-z 0-9 . _ -, starting with a letter or digit", c.Swarm)
	case !deviceName.MatchString(c.Device):
		return fmt.Errorf("device %q: want auto, cpu, cuda:0, or several GPUs as cuda:0,1", c.Device)
	}
	return c.Limits.validate()
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n < 1<<16
}
