// Package admission is a middleware of Traefik for what ForwardAuth leaves open.
//
// Before the door, with `doors`: what stays open is asked about again and again (recheck.go).
// After the door, with limits: what one credential may have open, and a body that is complete before the server sees any of it (bounds.go).
package admission

import (
	"context"
	"net/http"
)

// Config of one middleware. Zero is no limit. Turn is in seconds: how long a request waits for its credential's earlier ones before it is
// told to come back. Those may be held while the server restarts, so it is longer than that.
type Config struct {
	Doors    []string `json:"doors,omitempty"`
	Open     int      `json:"open,omitempty"`
	Requests int      `json:"requests,omitempty"`
	Turn     int      `json:"turn,omitempty"`
	Body     int64    `json:"body,omitempty"`
	Group    string   `json:"group,omitempty"`
}

// CreateConfig is what Traefik fills in.
func CreateConfig() *Config {
	return &Config{Turn: 60}
}

type handler struct {
	next   http.Handler
	config *Config
}

// New is called for each router, and again at each reload.
func New(ctx context.Context, next http.Handler, config *Config, name string) (http.Handler, error) {
	watching.Do(func() { go watch() })
	return &handler{next: next, config: config}, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(h.config.Doors) > 0 {
		h.recheck(w, r)
		return
	}
	h.bound(w, r)
}
