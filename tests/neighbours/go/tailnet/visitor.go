package main

import (
	"io"
	"net/http"

	"tailscale.com/tsnet"
)

// visitor lets who is on this machine connect to hosts of the tailnet as one of its nodes: HTTP's CONNECT.
type visitor struct {
	node *tsnet.Server
}

func (v visitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	upstream, err := v.node.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer upstream.Close()
	client, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err == nil {
		pipe(client, upstream)
	}
}
