package api

import "net/http"

func (s *Server) nodeRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/node", answer(func(r *http.Request) (Info, error) { return s.Node.Info(r.Context()) }))
	mux.Handle("GET /api/v1/peers", answer(func(r *http.Request) ([]Peer, error) { return s.Node.Peers(r.Context()) }))
	mux.Handle("GET /api/v1/doctor", answer(func(r *http.Request) ([]Check, error) { return s.Node.Doctor(r.Context()) }))
}
