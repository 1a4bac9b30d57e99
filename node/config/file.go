package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// maxFile bounds a configuration file, bytes.
const maxFile = 64 << 10

// readFile overlays the file's keys on c; a file that is not there changes nothing.
func (c *Config) readFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if err := c.parse(data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readSwarm takes the swarm that this home entered last, if any.
func (c *Config) readSwarm(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		c.Swarm = strings.TrimSpace(string(data))
	}
	return err
}

func (c *Config) parse(data []byte) error {
	if len(data) > maxFile {
		return fmt.Errorf("larger than %d bytes", maxFile)
	}
	if blank(data) { // the decoder would clear c
		return nil
	}
	return yaml.UnmarshalWithOptions(data, c, yaml.Strict())
}

// blank tells a file of nothing but comments.
func blank(data []byte) bool {
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// Sample is the text that `shoal init` writes: every key with its default, commented out.
func Sample() string {
	d := Default()
	return fmt.Sprintf(`# shoal node. Keys left out have the value shown; SHOAL_<KEY> in the environment and flags override them.
# name: ""                     # what others see beside the peer ID
# api_addr: %s     # local API; port 0 picks a free one
# listen: [%s]
# bootstrap: []                # multiaddrs of peers to start from, with /p2p/<id>
# mdns: %t                   # find peers on the local network
# swarm: %s
# device: %s                 # auto, cpu, cpu:generic, cuda:0, several GPUs as cuda:0,1
# internet: %t               # find nodes through the DHT, open ports, use relays; false for a laboratory
# announce: []                 # multiaddrs to tell others in place of the public ones found here
# reachability: %s           # auto (it is tested), public or private
# relay: %-4s                  # on: carry others' connections while this node is reachable; off
# profile: %s           # volunteer; server for bootstraps; lowpower for weak routers and metered lines
# max_up: 0                    # bandwidth sent, for example 10Mbit; 0: no limit
# max_down: 0                  # bandwidth received
# max_cpu: 0                   # share of the processors, for example 50%%; 0: all
# schedule: ""                 # when the node works, for example 22:00-07:00
# max_jobs: %d                  # jobs of others at the same time
# max_memory: 0                # for example 8GiB; 0: no limit
# max_disk: 0                  # quota of stored blocks; 0: no limit
# max_gpu_memory: 0            # memory of each GPU to use, for example 16GiB; 0: all
# max_gpu_power: 0             # watts that a GPU may draw; 0: no limit
# max_gpu_temp: 0              # degrees Celsius that a GPU may have; 0: no limit
`, d.APIAddr, strings.Join(d.Listen, ", "), d.MDNS, d.Swarm, d.Device, d.Internet, d.Reachability, d.Relay, d.Profile, d.MaxJobs)
}

// Bytes is an amount of memory or disk; as text "512MiB", "6GB" or a plain number of bytes.
type Bytes int64

var units = []struct {
	suffix string
	n      float64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1},
}

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	num, scale := strings.TrimSpace(s), 1.0
	for _, u := range units {
		if n, ok := strings.CutSuffix(num, u.suffix); ok {
			num, scale = strings.TrimSpace(n), u.n
			break
		}
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || v < 0 || v*scale > math.MaxInt64/2 || math.IsNaN(v) {
		return 0, fmt.Errorf("size %q: want for example 6GiB or 500MB", s)
	}
	return Bytes(v * scale), nil
}

// String writes b with a binary unit.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if float64(b) >= u.n {
			return strconv.FormatFloat(float64(b)/u.n, 'f', 1, 64) + " " + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

// exact is String without rounding: a whole number of the largest unit that allows it.
func (b Bytes) exact() string {
	for _, u := range units[:4] {
		if n := int64(u.n); int64(b)%n == 0 {
			return strconv.FormatInt(int64(b)/n, 10) + " " + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

// UnmarshalYAML accepts both a number and a text with a unit.
func (b *Bytes) UnmarshalYAML(data []byte) (err error) {
	*b, err = ParseBytes(strings.Trim(strings.TrimSpace(string(data)), `"'`))
	return err
}
