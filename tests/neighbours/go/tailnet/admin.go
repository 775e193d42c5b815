package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
)

// world is all that there is around the host under test.
type world struct {
	control *control
	relay   *relay
	nodes   []*tsnet.Server
	trusted *authority
	unknown *authority // which nobody trusts
}

// host is what is told of one.
type host struct {
	Name           string    `json:"name"`
	Address        string    `json:"address"`
	Tags           []string  `json:"tags"`
	KeyExpiry      time.Time `json:"key_expiry"` // year 1: never
	Capabilities   []string  `json:"capabilities"`
	IngressEnabled bool      `json:"ingress_enabled"`
}

// wish is what a certificate is to be.
type wish struct {
	Name    string    `json:"name"`
	Until   time.Time `json:"until"`
	Trusted bool      `json:"trusted"`
}

// admin lets the tests look at the world and change it.
func (w *world) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hosts", func(to http.ResponseWriter, _ *http.Request) { say(to, w.hosts()) })
	mux.HandleFunc("PUT /hosts/{host}/capabilities", told(func(r *http.Request, capabilities []string) {
		w.control.setGranted(r.PathValue("host"), capabilities)
	}))
	mux.HandleFunc("PUT /hosts/{host}/expiry", told(func(r *http.Request, at time.Time) {
		w.control.setExpiry(r.PathValue("host"), at)
	}))
	mux.HandleFunc("PUT /control/refusing", told(func(_ *http.Request, refusing bool) { w.control.setRefusing(refusing) }))
	mux.HandleFunc("PUT /control/feature", told(func(_ *http.Request, answer json.RawMessage) {
		w.control.setFeature(answer)
	}))
	mux.HandleFunc("PUT /relay/mode", told(func(_ *http.Request, mode string) { w.relay.setMode(mode) }))
	mux.HandleFunc("GET /relay/refusals/{source}", func(to http.ResponseWriter, r *http.Request) {
		say(to, w.relay.refusal(r.PathValue("source")))
	})
	mux.HandleFunc("POST /certificates", w.certify)
	mux.HandleFunc("POST /hosts/{host}/meeting", w.meet)
	return mux
}

func (w *world) hosts() (found []host) {
	for _, node := range w.control.hosts() {
		name := node.Hostinfo.Hostname()
		one := host{
			Name:           name,
			Address:        node.Addresses[0].Addr().String(),
			Tags:           node.Tags,
			KeyExpiry:      node.KeyExpiry,
			IngressEnabled: node.Hostinfo.IngressEnabled(),
		}
		for capability := range w.control.capabilities(name) {
			one.Capabilities = append(one.Capabilities, string(capability))
		}
		found = append(found, one)
	}
	return found
}

// meet answers when each node of this world can reach a host. One that has just come or changed its key is known to
// them a moment later than to control, and what is sent to it before that is sent again only after five seconds.
func (w *world) meet(to http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, node := range w.nodes {
		all.Go(func() {
			for ctx.Err() == nil && !w.isReached(ctx, node, r.PathValue("host")) {
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		http.Error(to, "it is not reached", http.StatusGatewayTimeout)
	}
}

func (w *world) isReached(ctx context.Context, node *tsnet.Server, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	client, err := node.LocalClient()
	there := w.control.host(host)
	if err != nil || there == nil {
		return false
	}
	pong, err := client.Ping(ctx, there.Addresses[0].Addr(), tailcfg.PingDisco)
	return err == nil && pong.Err == ""
}

func (w *world) certify(to http.ResponseWriter, r *http.Request) {
	var wanted wish
	if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
		http.Error(to, err.Error(), http.StatusBadRequest)
		return
	}
	by := w.unknown
	if wanted.Trusted {
		by = w.trusted
	}
	certificate, key, err := by.issue(wanted.Name, wanted.Until)
	if err != nil {
		http.Error(to, err.Error(), http.StatusInternalServerError)
		return
	}
	say(to, map[string]string{"certificate": certificate, "key": key})
}

// told makes a handler of what is to be done with a value; JSON's null is Go's zero value.
func told[T any](do func(*http.Request, T)) http.HandlerFunc {
	return func(to http.ResponseWriter, r *http.Request) {
		var value T
		if err := json.NewDecoder(r.Body).Decode(&value); err != nil {
			http.Error(to, err.Error(), http.StatusBadRequest)
			return
		}
		do(r, value)
	}
}

func say(to http.ResponseWriter, value any) {
	to.Header().Set("Content-Type", "application/json")
	json.NewEncoder(to).Encode(value)
}
