package api

import "net/http"

func (s *Server) nodeRoutes(mux *http.ServeMux) {
	mux.Handle("GET /api/v1/node", answer(func(r *http.Request) (Info, error) { return s.Node.Info(r.Context()) }))
	mux.Handle("POST /api/v1/node/pause", answer(func(r *http.Request) (Info, error) {
		var v PauseRequest
		if err := readBody(r, &v); err != nil {
			return Info{}, err
		}
		return s.Node.Pause(r.Context(), v)
	}))
	mux.Handle("POST /api/v1/node/resume", answer(func(r *http.Request) (Info, error) { return s.Node.Resume(r.Context()) }))
	mux.Handle("GET /api/v1/node/limits", answer(func(r *http.Request) (map[string]string, error) { return s.Node.Limits(r.Context()) }))
	mux.Handle("PATCH /api/v1/node/limits", answer(func(r *http.Request) (map[string]string, error) {
		var v map[string]string
		if err := readBody(r, &v); err != nil {
			return nil, err
		}
		return s.Node.SetLimits(r.Context(), v)
	}))
	mux.Handle("GET /api/v1/peers", answer(func(r *http.Request) ([]Peer, error) { return s.Node.Peers(r.Context()) }))
	mux.Handle("GET /api/v1/doctor", answer(func(r *http.Request) ([]Check, error) { return s.Node.Doctor(r.Context()) }))
}
