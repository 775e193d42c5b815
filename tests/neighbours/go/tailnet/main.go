// The world around the host under test, in one process: Tailscale's own test control server with its relays for nodes,
// the relay through which the public comes, a resolver that knows it, and two nodes of the tailnet that ask.
//
// It is told and asked over DIRECTORY/admin.sock, which is there when all of it works. DIRECTORY/ca.pem is who signs
// the certificates. Who connects to DIRECTORY/laptop.sock or server.sock can go on as that node, by HTTP's CONNECT.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration"
	"tailscale.com/types/logger"
)

var (
	directory = flag.String("directory", "", "where the sockets are made")
	address   = flag.String("control", "127.0.0.1:9911", "where hosts reach control")
	relays    = flag.String("relay", "203.0.113.1", "the relay's addresses, as a list")
	resolving = flag.String("resolver", "203.0.113.53", "the resolver's address")
)

var publicPorts = []string{"443", "8443", "10000"}

func main() {
	flag.Parse()
	control := newControl(integration.RunDERPAndSTUN(alone{}, logger.Discard, "127.0.0.1"), *address)
	go serve(control, listener{listen("tcp", *address), control})
	ours := listen("tcp", "127.0.0.1:0") // not cut with those of the hosts: who is cut off comes back in its own time
	go serve(control, ours)

	// One after the other, so that each has the same user and address in every run.
	laptop := join(ours, "laptop")
	server := join(ours, "server", serverTag)
	ingress := join(ours, "relay")
	control.SetUnsignedPeerAPIOnly(control.host("relay").Key, true) // as production's: peers take nothing else from it

	w := world{
		control: control,
		nodes:   []*tsnet.Server{laptop, server, ingress},
		trusted: must(newAuthority("test CA")),
		unknown: must(newAuthority("nobody's CA")),
	}
	w.relay = &relay{control: control, node: ingress, mode: carrying, refusals: map[string]string{}}
	for _, one := range strings.Split(*relays, ",") {
		for _, port := range publicPorts {
			public := listen("tcp", net.JoinHostPort(one, port))
			go func() { log.Fatal(w.relay.serve(public)) }()
		}
	}
	go serve(visitor{laptop}, listen("unix", filepath.Join(*directory, "laptop.sock")))
	go serve(visitor{server}, listen("unix", filepath.Join(*directory, "server.sock")))
	go serve(&resolver{control, must(netip.ParseAddr(strings.Split(*relays, ",")[0]))}, w.secured(*resolving))
	check(os.WriteFile(filepath.Join(*directory, "ca.pem"), []byte(w.trusted.pem), 0o644))
	serve(w.admin(), listen("unix", filepath.Join(*directory, "admin.sock")))
}

// join lets a node of that name become one of the tailnet.
func join(control net.Listener, name string, tags ...string) *tsnet.Server {
	node := &tsnet.Server{
		Dir:           filepath.Join(*directory, name),
		Hostname:      name,
		ControlURL:    "http://" + control.Addr().String(),
		AdvertiseTags: tags,
		UserLogf:      logger.Discard,
	}
	check(os.Mkdir(node.Dir, 0o700))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(node.Up(ctx))
	return node
}

// secured listens with a certificate for the address.
func (w *world) secured(address string) net.Listener {
	certificate, key, err := w.trusted.issue(address, time.Now().AddDate(0, 1, 0))
	check(err)
	pair := must(tls.X509KeyPair([]byte(certificate), []byte(key)))
	return tls.NewListener(listen("tcp", net.JoinHostPort(address, "443")), &tls.Config{Certificates: []tls.Certificate{pair}})
}

func listen(network, address string) net.Listener { return must(net.Listen(network, address)) }

func serve(handler http.Handler, listening net.Listener) {
	log.Fatal(http.Serve(listening, handler))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// alone is what the test control server takes for the test that it runs in.
type alone struct{ *testing.T }

func (alone) Helper()                          {}
func (alone) Cleanup(func())                   {}
func (alone) Logf(string, ...any)              {}
func (alone) Fatal(words ...any)               { log.Fatal(words...) }
func (alone) Fatalf(text string, words ...any) { log.Fatalf(text, words...) }
