package admission

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// How long a request waits for its credential's earlier ones before it is told to come back.
	turn = 30 * time.Second
	// Bodies that are being read, of all credentials; a credential may have a quarter of it, but at least one body.
	room  = 128 << 20
	piece = 64 << 10
)

// What one credential has open at one group of routes.
type account struct {
	open  int
	bytes int64
	turns chan bool
}

var (
	ledger   sync.Mutex
	accounts = map[string]*account{}
	reading  int64
)

func (h *handler) bound(w http.ResponseWriter, r *http.Request) {
	key := h.config.Group + "\n" + r.Header.Get("X-Platform-Token-Id") + "\n" + r.Header.Get("X-Platform-Subject")
	mine := h.enter(key)
	if mine == nil {
		refuse(w, http.StatusTooManyRequests, "too many open connections with this credential")
		return
	}
	var kept int64
	defer func() { leave(key, mine, kept) }()
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		h.next.ServeHTTP(w, r)
		return
	}
	if h.config.Body > 0 && r.Body != nil && r.ContentLength != 0 {
		body, status := h.complete(mine, r)
		kept = int64(len(body))
		if status != 0 {
			refuse(w, status, http.StatusText(status))
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), kept, nil
	}
	if mine.turns != nil {
		patience := time.NewTimer(turn)
		defer patience.Stop()
		select {
		case mine.turns <- true:
			defer func() { <-mine.turns }()
		case <-r.Context().Done():
			return
		case <-patience.C:
			refuse(w, http.StatusTooManyRequests, "too many requests at once with this credential")
			return
		}
	}
	h.next.ServeHTTP(w, r)
}

func (h *handler) enter(key string) *account {
	ledger.Lock()
	defer ledger.Unlock()
	mine := accounts[key]
	if mine == nil {
		mine = &account{}
		if h.config.Requests > 0 {
			mine.turns = make(chan bool, h.config.Requests)
		}
		accounts[key] = mine
	}
	if h.config.Open > 0 && mine.open >= h.config.Open {
		return nil
	}
	mine.open++
	return mine
}

func leave(key string, mine *account, kept int64) {
	ledger.Lock()
	defer ledger.Unlock()
	mine.open--
	mine.bytes -= kept
	reading -= kept
	if mine.open == 0 {
		delete(accounts, key)
	}
}

// complete reads the body; or says with which status it is refused. What was read counts until the request is over.
func (h *handler) complete(mine *account, r *http.Request) ([]byte, int) {
	if r.ContentLength > h.config.Body {
		return nil, http.StatusRequestEntityTooLarge
	}
	body := &bytes.Buffer{}
	for {
		count, err := io.CopyN(body, r.Body, piece)
		allowed := reserve(mine, count, h.config.Body)
		switch {
		case int64(body.Len()) > h.config.Body:
			return body.Bytes(), http.StatusRequestEntityTooLarge
		case !allowed:
			return body.Bytes(), http.StatusTooManyRequests
		case err == io.EOF:
			return body.Bytes(), 0
		case err != nil:
			return body.Bytes(), http.StatusBadRequest
		}
	}
}

func reserve(mine *account, count int64, largest int64) bool {
	ledger.Lock()
	defer ledger.Unlock()
	mine.bytes += count
	reading += count
	share := int64(room / 4)
	if share < largest {
		share = largest
	}
	return reading <= room && mine.bytes <= share
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "2")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"error": "`+why+`"}`)
}
