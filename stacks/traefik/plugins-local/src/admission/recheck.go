package admission

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ForwardAuth asks the door when a request arrives. A WebSocket, a stream or a long poll may stay open for days:
// what is open for longer than a moment is asked about again, with the headers that it came with, and ended once the door refuses.
// Ending its context closes both sides, of a hijacked connection too (Traefik 3.7).
const (
	interval = 1500 * time.Millisecond
	// A door that does not answer is not a refusal: after this time without an answer it counts as one.
	patience = 60 * time.Second
	asking   = 16
)

type held struct {
	doors  []string
	header http.Header
	since  time.Time
	cancel context.CancelFunc
}

// One interpreter serves all routers and outlives their reloads, so these are the process's.
var (
	mutex    sync.Mutex
	open     = map[*held]bool{}
	silent   = map[string]time.Time{}
	watching sync.Once
	client   = &http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: asking, IdleConnTimeout: 90 * time.Second},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
)

func (h *handler) recheck(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	header := r.Header.Clone()
	for _, name := range []string{"Connection", "Upgrade", "Te", "Content-Length", "Transfer-Encoding"} {
		header.Del(name)
	}
	header.Set("X-Forwarded-Method", r.Method)
	header.Set("X-Forwarded-Uri", r.URL.RequestURI())
	one := &held{doors: h.config.Doors, header: header, since: time.Now(), cancel: cancel}
	mutex.Lock()
	open[one] = true
	mutex.Unlock()
	defer func() {
		mutex.Lock()
		delete(open, one)
		mutex.Unlock()
		cancel()
	}()
	h.next.ServeHTTP(w, r.WithContext(ctx))
}

func watch() {
	for {
		time.Sleep(interval)
		groups := byCredential()
		turns := make(chan bool, asking)
		var all sync.WaitGroup
		for key, group := range groups {
			all.Add(1)
			turns <- true
			go func(key string, group []*held) {
				defer all.Done()
				if !stillAdmitted(key, group[0]) {
					for _, one := range group {
						one.cancel()
					}
				}
				<-turns
			}(key, group)
		}
		all.Wait()
		forget(groups)
	}
}

// byCredential is what is open for longer than a moment; a thousand sockets of one token are one question.
func byCredential() map[string][]*held {
	groups := map[string][]*held{}
	limit := time.Now().Add(-interval / 2)
	mutex.Lock()
	defer mutex.Unlock()
	for one := range open {
		if one.since.Before(limit) {
			parts := append([]string{}, one.doors...)
			parts = append(parts, one.header["Authorization"]...)
			parts = append(parts, one.header["Cookie"]...)
			key := strings.Join(append(parts, one.header.Get("X-Forwarded-Host")), "\n")
			groups[key] = append(groups[key], one)
		}
	}
	return groups
}

func stillAdmitted(key string, one *held) bool {
	known, admitted := ask(one)
	mutex.Lock()
	defer mutex.Unlock()
	if known {
		delete(silent, key)
		return admitted
	}
	if _, before := silent[key]; !before {
		silent[key] = time.Now()
	}
	return time.Since(silent[key]) < patience
}

// ask goes from door to door as the request did: what single sign-on says of a person is for the verifier to judge.
func ask(one *held) (known bool, admitted bool) {
	header := one.header.Clone()
	for _, door := range one.doors {
		question, err := http.NewRequest(http.MethodGet, door, nil)
		if err != nil {
			return true, false
		}
		question.Header = header.Clone()
		answer, err := client.Do(question)
		if err != nil {
			return false, false
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
		_ = answer.Body.Close()
		if answer.StatusCode >= 500 {
			return false, false
		}
		if answer.StatusCode >= 300 {
			return true, false
		}
		for _, name := range []string{"X-Authentik-Username", "X-Authentik-Groups"} {
			header.Del(name)
			for _, value := range answer.Header[name] {
				header.Add(name, value)
			}
		}
	}
	return true, true
}

func forget(groups map[string][]*held) {
	mutex.Lock()
	defer mutex.Unlock()
	for key := range silent {
		if _, there := groups[key]; !there {
			delete(silent, key)
		}
	}
}
