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
	// Bytes of bodies in memory, of all credentials; or two of the largest. One credential may have a third of it, but at least one body.
	room = 48 << 20
	// A body is read in pieces, each twice as large as the one before: one that hardly comes takes hardly any memory.
	smallest, largest = 4 << 10, 256 << 10
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
	if isSocket(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	if h.config.Body > 0 && r.Body != nil && r.ContentLength != 0 {
		pieces, size, taken, status := h.complete(mine, r)
		kept = taken
		if status != 0 {
			refuse(w, status, http.StatusText(status))
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(io.MultiReader(pieces...)), size, nil
	}
	if mine.turns != nil {
		patience := time.NewTimer(time.Duration(h.config.Turn) * time.Second)
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

// isSocket is strict: whatever only looks like a WebSocket is a request, with a body and a turn.
func isSocket(r *http.Request) bool {
	asks := strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
	return asks && r.Method == http.MethodGet && r.ContentLength == 0 && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
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

// complete reads the body; or says with which status it is refused. `taken` is the memory that counts until the request is over.
func (h *handler) complete(mine *account, r *http.Request) (pieces []io.Reader, size int64, taken int64, status int) {
	if r.ContentLength > h.config.Body {
		return nil, 0, 0, http.StatusRequestEntityTooLarge
	}
	next := int64(smallest)
	for {
		taken += next
		if !reserve(mine, next, h.config.Body) {
			return nil, 0, taken, http.StatusTooManyRequests
		}
		piece := make([]byte, next)
		count, err := fill(piece, r.Body)
		pieces = append(pieces, bytes.NewReader(piece[:count]))
		size += int64(count)
		switch {
		case size > h.config.Body:
			return nil, 0, taken, http.StatusRequestEntityTooLarge
		case err == io.EOF:
			return pieces, size, taken, 0
		case err != nil:
			return nil, 0, taken, http.StatusBadRequest
		}
		if next < largest {
			next *= 2
		}
	}
}

// fill ends with io.EOF only where the body does; io.ReadFull would call a body that was cut off by the same name.
func fill(piece []byte, from io.Reader) (int, error) {
	count := 0
	for count < len(piece) {
		more, err := from.Read(piece[count:])
		count += more
		if err != nil {
			return count, err
		}
	}
	return count, nil
}

func reserve(mine *account, count int64, body int64) bool {
	ledger.Lock()
	defer ledger.Unlock()
	mine.bytes += count
	reading += count
	// The last piece of a body may be larger than what is left of it.
	body += 2 * largest
	return (reading <= room || reading <= 2*body) && (mine.bytes <= room/3 || mine.bytes <= body)
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "2")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"error": "`+why+`"}`)
}
