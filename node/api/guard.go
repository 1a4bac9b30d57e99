package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// guard refuses callers that a local API must not answer, and bounds request bodies.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.admit(r); err != nil {
			writeError(w, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) admit(r *http.Request) error {
	if !sameOrigin(r) {
		return &Error{http.StatusForbidden, "cross-origin requests are refused"}
	}
	if s.authorized(r) {
		return nil
	}
	if s.Remote {
		return &Error{http.StatusUnauthorized, "send the token of this node's api.token file as Authorization: Bearer …"}
	}
	// A name that an attacker points at 127.0.0.1 shows itself in the Host header.
	if !isLoopback(r.Host) {
		return &Error{http.StatusForbidden, "Host " + strings.ToValidUTF8(r.Host, "?") + " is not this machine; use 127.0.0.1 or localhost"}
	}
	return nil
}

// sameOrigin holds for callers that are not browsers and for pages that this server served.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return false
	}
	o := r.Header.Get("Origin")
	if o == "" {
		return true
	}
	u, err := url.Parse(o)
	return err == nil && u.Host != "" && u.Host == r.Host
}

func (s *Server) authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || s.Token == "" {
		return false
	}
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isLoopback tells that a Host header names this machine's loopback, with or without a port.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Loopback tells that a listener's address cannot be reached from other machines.
func Loopback(a net.Addr) bool { return isLoopback(a.String()) }
