package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node"
	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/config"
	"github.com/seed-7b27c88a/shoal/node/membership"
)

func (a *app) swarmCmd() *cobra.Command {
	cmd := group("swarm", "found, join and govern private swarms")
	cmd.AddCommand(a.swarmCreateCmd(), a.swarmJoinCmd(), a.swarmLsCmd(), a.swarmShowCmd(), a.swarmLeaveCmd(),
		a.swarmInviteCmd(), a.swarmMembersCmd(), a.swarmRevokeCmd())
	return cmd
}

// joined is a swarm of this home, as --json prints it.
type joined struct {
	Name    string    `json:"name"`
	Private bool      `json:"private"`
	ID      string    `json:"id,omitempty"`
	Role    string    `json:"role,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	RootKey bool      `json:"root_key,omitempty"`
	Current bool      `json:"current"`
}

func showJoined(j membership.Joined, current bool) joined {
	if j.Root == "" {
		return joined{Name: j.Name, Current: current}
	}
	return joined{j.Name, true, string(j.Root), j.Member.Role.String(), j.Member.Until, j.HasRoot, current}
}

func (j joined) print(w io.Writer) {
	if !j.Private {
		fmt.Fprintf(w, "swarm %s, open\n", j.Name)
		return
	}
	fmt.Fprintf(w, "swarm %s %s\nrole %s until %s\n", j.Name, j.ID, j.Role, day(j.Until))
}

func day(t time.Time) string { return t.Local().Format("2006-01-02") }

func (a *app) swarmCreateCmd() *cobra.Command {
	var private bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "found a private swarm, or choose an open one by its name",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := a.home()
			if err != nil {
				return err
			}
			j, err := node.CreateSwarm(home, args[0], private)
			if err != nil {
				return err
			}
			a.sayEntered(cmd, home)
			if private {
				a.say("the root key is %s/swarms/%s/root: keep a copy of it in a safe place; who has it governs the swarm", home, j.Name)
			}
			v := showJoined(j, true)
			return a.answer(v, v.print)
		},
	}
	cmd.Flags().BoolVar(&private, "private", false, "only who was invited may connect")
	return cmd
}

// sayEntered tells that a running daemon stays where it is.
func (a *app) sayEntered(cmd *cobra.Command, home string) {
	c, err := a.client()
	if err != nil {
		return
	}
	if _, err := c.Info(cmd.Context()); err == nil {
		a.say("the daemon of %s runs: start it again to enter the swarm", home)
	}
}

func (a *app) swarmJoinCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "join TOKEN|-|@FILE",
		Short: "enter a private swarm with an invite, from standard input (-), a file (@FILE) or $SHOAL_INVITE",
		Args:  usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := a.readToken(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			home, err := a.home()
			if err != nil {
				return err
			}
			j, err := node.JoinSwarm(cmd.Context(), home, token, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			a.sayEntered(cmd, home)
			v := showJoined(j, true)
			return a.answer(v, v.print)
		},
	}
}

// readToken finds the invite where it does not get into the shell's history; it takes it from there, too.
func (a *app) readToken(stdin io.Reader, args []string) (string, error) {
	const limit = 64 << 10
	from := ""
	if len(args) > 0 {
		from = args[0]
	}
	switch file, isFile := strings.CutPrefix(from, "@"); {
	case from == "" && a.env("SHOAL_INVITE") != "":
		return a.env("SHOAL_INVITE"), nil
	case from == "":
		return "", usagef("no invite: give -, @FILE, or set $SHOAL_INVITE")
	case from == "-":
		b, err := io.ReadAll(io.LimitReader(stdin, limit))
		return string(b), err
	case isFile:
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, limit))
		return string(b), err
	}
	a.say("an invite on the command line stays in the shell's history and is seen by other users; rather use - or $SHOAL_INVITE")
	return from, nil
}

func (a *app) swarmLsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "private swarms of this home",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := a.home()
			if err != nil {
				return err
			}
			cfg, err := config.Load(home, a.env, nil)
			if err != nil {
				return err
			}
			js, err := membership.List(home)
			if err != nil {
				return err
			}
			rows := []joined{}
			for _, j := range js {
				rows = append(rows, showJoined(j, j.Name == cfg.Swarm))
			}
			return list(a, rows, "NAME\tROLE\tUNTIL\tROOT KEY\tCURRENT\tID", func(j joined) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", j.Name, j.Role, day(j.Until), yes(j.RootKey), yes(j.Current), j.ID)
			})
		},
	}
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "-"
}

func (a *app) swarmShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "the swarm that the daemon is in",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Swarm(cmd.Context())
			if err != nil {
				return err
			}
			return a.answer(v, func(w io.Writer) { printSwarm(w, v) })
		},
	}
}

func printSwarm(w io.Writer, v api.SwarmInfo) {
	row := func(k, format string, args ...any) { fmt.Fprintf(w, "%-10s %s\n", k, fmt.Sprintf(format, args...)) }
	row("name", "%s", v.Name)
	if !v.Private {
		row("kind", "open: whoever names it is in")
		return
	}
	row("kind", "private")
	row("id", "%s", v.ID)
	row("role", "%s until %s, then renewed; admitted by %s", v.Role, day(v.Until), v.Issuer)
	row("root key", "%s", yes(v.RootKey))
	row("members", "%d known, %d revocations", v.Members, v.Revoked)
	if v.Problem != "" {
		row("problem", "%s", v.Problem)
	}
}

func (a *app) swarmLeaveCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "leave NAME",
		Short: "forget a private swarm and this node's membership",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := a.home()
			if err != nil {
				return err
			}
			js, err := membership.List(home)
			if err != nil {
				return err
			}
			for _, j := range js {
				if j.Name == args[0] && j.HasRoot && !force {
					return fmt.Errorf("this home has the root key of %q; without it nobody can govern the swarm: copy %s/swarms/%s/root, then leave with --force", j.Name, home, j.Name)
				}
			}
			if err := node.LeaveSwarm(home, args[0]); err != nil {
				return err
			}
			a.sayLeft(cmd, home)
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also when the root key is lost by it")
	return cmd
}

func (a *app) sayLeft(cmd *cobra.Command, home string) {
	c, err := a.client()
	if err != nil {
		return
	}
	if _, err := c.Info(cmd.Context()); !errors.Is(err, api.ErrDown) {
		a.say("the daemon of %s runs: start it again to leave", home)
	}
}

func (a *app) swarmInviteCmd() *cobra.Command {
	var r api.InviteRequest
	var expires string
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "make an invite into the daemon's private swarm; who has it can join",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := parseDays(expires)
			if err != nil {
				return usageError{err}
			}
			if r.Uses < 1 {
				return usageError{fmt.Errorf("--uses %d: want 1 or more", r.Uses)}
			}
			r.Expires = d.Seconds()
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Invite(cmd.Context(), r)
			if err != nil {
				return err
			}
			a.say("for %s as %s until %s; pass it on secretly, and take it with \"shoal swarm join -\"", plural(v.Uses, "node"), v.Role, v.Until.Local().Format(time.DateTime))
			return a.answer(v, func(w io.Writer) { fmt.Fprintln(w, v.Token) })
		},
	}
	cmd.Flags().StringVar(&r.Role, "role", "volunteer", "volunteer (works), submitter (also submits jobs) or admin (also invites and revokes)")
	cmd.Flags().IntVar(&r.Uses, "uses", 1, "how many nodes it admits")
	cmd.Flags().StringVar(&expires, "expires", "7d", "how long it holds, for example 30m, 24h or 7d")
	return cmd
}

// parseDays is time.ParseDuration that knows whole days.
func parseDays(s string) (time.Duration, error) {
	var n int
	if _, err := fmt.Sscanf(s, "%dd", &n); err == nil && s == fmt.Sprintf("%dd", n) && n > 0 && n <= 3650 {
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("duration %q: want for example 30m, 24h or 7d", s)
	}
	return d, nil
}

func (a *app) swarmMembersCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "members of the private swarm that this node has heard of",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ms, err := c.Members(cmd.Context())
			if err != nil {
				return err
			}
			return list(a, ms, "PEER\tROLE\tUNTIL\tCONNECTED\tADMITTED BY", func(m api.SwarmMember) string {
				who := "-"
				if m.Self {
					who = "this node"
				} else if m.Connected {
					who = "yes"
				}
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", m.ID, m.Role, day(m.Until), who, short(m.Issuer))
			})
		},
	}
}

func (a *app) swarmRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke PEER",
		Short: "put a member out of the private swarm, and with an admin whom it admitted",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Revoke(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a.say("unused invites of this swarm still admit whoever has them, until they expire")
			return a.answer(v, func(w io.Writer) { fmt.Fprintln(w, strings.Join(v.Members, "\n")) })
		},
	}
}
