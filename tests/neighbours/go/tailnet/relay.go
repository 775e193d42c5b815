package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
)

// Relay modes: what it does with who connects.
const (
	carrying = "carry"
	closing  = "close" // as one that is overloaded or restarts
	hanging  = "hang"  // as one whose way to the node is lost
)

// relay is what the public reaches in the place of a host: it knows from the name in the TLS greeting whose node is
// meant, asks control whether that may be, and passes the bytes on to the node's peer API, where the node decides
// again. It sees nothing of what is said.
type relay struct {
	control *control
	node    *tsnet.Server

	mu       sync.Mutex
	mode     string
	refusals map[string]string // why somebody with that address was refused, the last time
}

func (r *relay) setMode(mode string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode = mode
}

// refusal returns why somebody was refused; it is forgotten then.
func (r *relay) refusal(source string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer delete(r.refusals, source)
	return r.refusals[source]
}

// serve accepts the public until the listener is closed.
func (r *relay) serve(listening net.Listener) error {
	for {
		client, err := listening.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			r.mu.Lock()
			mode := r.mode
			r.mu.Unlock()
			switch mode {
			case carrying:
				r.carry(client)
			case hanging:
				io.Copy(io.Discard, client)
			}
		}()
	}
}

func (r *relay) carry(client net.Conn) {
	port := client.LocalAddr().(*net.TCPAddr).AddrPort().Port()
	name, greeting := readGreeting(client)
	upstream, err := r.ask(name, port, client.RemoteAddr())
	if err != nil {
		r.mu.Lock()
		r.refusals[client.RemoteAddr().String()] = err.Error()
		r.mu.Unlock()
		return
	}
	defer upstream.Close()
	if _, err := upstream.Write(greeting); err == nil {
		pipe(client, upstream)
	}
}

// ask opens a stream to what a node publishes on a port, on behalf of somebody; the error says who refuses, and why.
func (r *relay) ask(name string, port uint16, source net.Addr) (net.Conn, error) {
	api, err := r.admit(name, port)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	upstream, err := r.node.Dial(ctx, "tcp", api.String())
	if err != nil {
		return nil, fmt.Errorf("the node cannot be reached: %w", err)
	}
	request, _ := http.NewRequest("POST", "http://"+api.String()+"/v0/ingress", nil)
	request.Header.Set("Tailscale-Ingress-Src", source.String())
	request.Header.Set("Tailscale-Ingress-Target", fmt.Sprintf("%s:%d", name, port))
	if err := request.Write(upstream); err != nil {
		upstream.Close()
		return nil, fmt.Errorf("the node does not listen: %w", err)
	}
	reading := bufio.NewReader(upstream)
	answer, err := http.ReadResponse(reading, request)
	if err != nil {
		upstream.Close()
		return nil, fmt.Errorf("the node does not answer: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		said, _ := io.ReadAll(answer.Body)
		upstream.Close()
		return nil, fmt.Errorf("node: %s: %s", answer.Status, strings.TrimSpace(string(said)))
	}
	return buffered{upstream, reading}, nil
}

// admit returns the address of a node's peer API when the tailnet's policy lets the public in, and the node wants it.
func (r *relay) admit(name string, port uint16) (netip.AddrPort, error) {
	var api netip.AddrPort
	host := strings.TrimSuffix(name, "."+domain)
	node := r.control.host(host)
	if node == nil {
		return api, fmt.Errorf("no node is called %q", name)
	}
	for _, service := range node.Hostinfo.Services().All() {
		if service.Proto == tailcfg.PeerAPI4 {
			api = netip.AddrPortFrom(node.Addresses[0].Addr(), service.Port)
		}
	}
	if err := ipn.CheckFunnelAccess(port, &ipnstate.PeerStatus{CapMap: r.control.capabilities(host)}); err != nil {
		return api, err
	}
	if !node.KeyExpiry.IsZero() && node.KeyExpiry.Before(time.Now()) {
		return api, errors.New("the node's key has expired")
	}
	if !node.Hostinfo.IngressEnabled() || !api.IsValid() {
		return api, errors.New("the node publishes nothing")
	}
	return api, nil
}

// readGreeting returns the server's name in a TLS greeting, and the greeting.
func readGreeting(client net.Conn) (name string, greeting []byte) {
	var read bytes.Buffer
	peeking := tls.Server(readOnly{client, io.TeeReader(client, &read)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, errors.New("that is all")
		},
	})
	peeking.Handshake()
	return name, read.Bytes()
}

// readOnly is a connection on which nothing is said.
type readOnly struct {
	net.Conn
	reading io.Reader
}

func (c readOnly) Read(into []byte) (int, error)  { return c.reading.Read(into) }
func (c readOnly) Write(said []byte) (int, error) { return len(said), nil }

// buffered is a connection of which a part was read ahead.
type buffered struct {
	net.Conn
	reading *bufio.Reader
}

func (c buffered) Read(into []byte) (int, error) { return c.reading.Read(into) }

func (c buffered) CloseWrite() error { return closeWrite(c.Conn) }

// pipe carries bytes both ways until both have said all. One side's fault ends both.
func pipe(one, other net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { carryOn(one, other) })
	both.Go(func() { carryOn(other, one) })
	both.Wait()
}

func carryOn(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	closeWrite(to)
}

func closeWrite(connection net.Conn) error {
	if half, ok := connection.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return connection.Close()
}
