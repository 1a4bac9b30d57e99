package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
)

// app is what every verb shares: the global flags and where answers go.
type app struct {
	homeFlag, apiFlag string
	json              bool
	out, err          io.Writer
	env               func(string) string
}

func (a *app) home() (string, error) { return config.Home(a.homeFlag, a.env) }

// client talks to the daemon that --api, $SHOAL_API or the home's api file names.
func (a *app) client() (*api.Client, error) {
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	return api.NewClient(func() (addr, token string, err error) {
		token, err = readSmall(filepath.Join(home, api.TokenFile))
		if err != nil {
			return "", "", err
		}
		for _, addr := range []string{a.apiFlag, a.env("SHOAL_API")} {
			if addr != "" {
				return addr, token, nil
			}
		}
		addr, err = readSmall(filepath.Join(home, api.AddrFile))
		if err == nil && addr == "" {
			err = fmt.Errorf("%w for %s", api.ErrDown, home)
		}
		return addr, token, err
	}), nil
}

// readSmall returns the trimmed text of a small file, "" when it is not there.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(data)), err
}

// answer prints v as one JSON object with --json, else what text writes.
func (a *app) answer(v any, text func(w io.Writer)) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(v)
	}
	text(a.out)
	return nil
}

// list prints rows as JSON lines with --json, else as a table under head.
func list[T any](a *app, rows []T, head string, row func(T) string) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintln(w, row(r))
	}
	return w.Flush()
}

// say writes a note for people.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// width of the terminal that progress goes to, 0: it is none.
func (a *app) width() int {
	f, ok := a.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil || w < 20 {
		return 80
	}
	return w
}

// shortIDs shortens the peer IDs in a line for people.
func shortIDs(text string) string {
	words := strings.SplitAfter(text, " ")
	for i, w := range words {
		if id := strings.TrimRight(w, " :,;."); strings.HasPrefix(id, "12D3KooW") && len(id) == 52 {
			words[i] = short(id) + w[len(id):]
		}
	}
	return strings.Join(words, "")
}

// short is enough of a CID or peer ID for people.
func short(id string) string {
	if len(id) <= 12 {
		return id
	}
	return "…" + id[len(id)-8:]
}
