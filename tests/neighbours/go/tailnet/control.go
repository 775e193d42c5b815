package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

const (
	domain    = "tail-test.ts.net"
	serverTag = "tag:server"
)

// usual is what the policy of a tailnet grants that uses funnel as Tailscale's documentation says.
var usual = []string{
	string(tailcfg.CapabilityHTTPS),
	string(tailcfg.NodeAttrFunnel),
	string(tailcfg.CapabilityFunnelPorts) + "?ports=443,8443,10000",
}

// control is Tailscale's own test control server with what that one lacks: capabilities of a host that change, a key
// that expires, an answer to the query for features, and connections that can be cut and refused.
type control struct {
	*testcontrol.Server

	// changing is held for reading while a node's update of itself is worked on, as who changes a node from outside
	// writes all of it back.
	changing sync.RWMutex

	mu       sync.Mutex
	seen     map[key.NodePublic]bool
	current  map[string]key.NodePublic // the key that a host of that name uses now
	granted  map[string][]string       // what a host of that name is granted, where that is not the usual
	feature  json.RawMessage           // the answer to the query; nil: not found
	refusing bool
	open     map[net.Conn]bool
}

func newControl(derp *tailcfg.DERPMap, address string) *control {
	c := &control{
		seen:    map[key.NodePublic]bool{},
		current: map[string]key.NodePublic{},
		granted: map[string][]string{},
		open:    map[net.Conn]bool{},
	}
	c.Server = &testcontrol.Server{
		Logf:                    func(string, ...any) {},
		DERPMap:                 derp,
		ExplicitBaseURL:         "http://" + address,
		MagicDNSDomain:          domain,
		DNSConfig:               &tailcfg.DNSConfig{Proxied: true}, // without one no name may have a certificate
		DefaultNodeCapabilities: &tailcfg.NodeCapMap{},
		AllOnline:               true,
		TagOwners:               map[string][]string{serverTag: nil},
		HoldMapRequest:          c.hold,
	}
	c.answerFeatureQueries()
	return c
}

// answerFeatureQueries adds one path to the stock server's multiplexer. Without it that server panics when a node asks
// what would enable funnel for it. No proxy in front can answer instead: what nodes say is encrypted for the server,
// and comes out just before the multiplexer, which is made with the first request and not to be had in another way.
func (c *control) answerFeatureQueries() {
	c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/generate_204", nil))
	mux := (*http.ServeMux)(reflect.ValueOf(c.Server).Elem().FieldByName("mux").UnsafePointer())
	mux.HandleFunc("/machine/feature/query", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.feature == nil {
			http.NotFound(w, r)
			return
		}
		w.Write(c.feature)
	})
}

// hold is called with each request of a node for its map, before the server works on it.
func (c *control) hold(request *tailcfg.MapRequest) (done func()) {
	c.mu.Lock()
	isNew := !c.seen[request.NodeKey]
	c.seen[request.NodeKey] = true
	c.mu.Unlock()
	if node := c.Node(request.NodeKey); isNew && node != nil {
		c.welcome(node)
	}
	if request.Stream { // changes nothing, and does not end
		return nil
	}
	c.changing.RLock()
	return c.changing.RUnlock
}

// welcome takes in who logs in, for the first time or anew: a host has one key, and one that was just made is fresh.
func (c *control) welcome(node *tailcfg.Node) {
	c.changing.Lock()
	defer c.changing.Unlock()
	host := node.Hostinfo.Hostname()
	c.mu.Lock()
	before, wasThere := c.current[host]
	c.current[host] = node.Key
	number := len(c.seen)
	c.mu.Unlock()
	if wasThere {
		c.retire(c.Node(before), number)
	}
	node.KeyExpiry = time.Time{}
	c.UpdateNode(node)
	c.SetNodeCapMap(node.Key, c.capabilities(host))
}

// retire makes a node that the server keeps for ever one that nobody takes for the host that it was.
func (c *control) retire(node *tailcfg.Node, number int) {
	address := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 100, byte(number >> 8), byte(number)}), 32)
	node.ID += 1000 * tailcfg.NodeID(number)
	node.StableID = tailcfg.StableNodeID(fmt.Sprintf("RETIRED%d", number))
	node.Name = fmt.Sprintf("retired-%d.%s.", number, domain)
	node.Addresses = []netip.Prefix{address}
	node.AllowedIPs = node.Addresses
	c.UpdateNode(node)
}

// host returns the node that is the host of that name now; nil without one.
func (c *control) host(name string) *tailcfg.Node {
	c.mu.Lock()
	current, ok := c.current[name]
	c.mu.Unlock()
	if !ok {
		return nil
	}
	return c.Node(current)
}

// hosts returns all that there are, each once.
func (c *control) hosts() (found []*tailcfg.Node) {
	for _, node := range c.AllNodes() {
		if now := c.host(node.Hostinfo.Hostname()); now != nil && now.Key == node.Key {
			found = append(found, node)
		}
	}
	return found
}

// capabilities returns what a host may do.
func (c *control) capabilities(host string) tailcfg.NodeCapMap {
	c.mu.Lock()
	defer c.mu.Unlock()
	granted, ok := c.granted[host]
	if !ok {
		granted = usual
	}
	found := tailcfg.NodeCapMap{tailcfg.NodeAttrDisableCaptivePortalDetection: nil}
	for _, capability := range granted {
		found[tailcfg.NodeCapability(capability)] = nil
	}
	return found
}

// setGranted changes what a host is granted; nil is the usual.
func (c *control) setGranted(host string, capabilities []string) {
	c.mu.Lock()
	delete(c.granted, host)
	if capabilities != nil {
		c.granted[host] = capabilities
	}
	c.mu.Unlock()
	if node := c.host(host); node != nil {
		c.SetNodeCapMap(node.Key, c.capabilities(host))
	}
}

// setExpiry lets a host's key end at a time; the zero time is never.
func (c *control) setExpiry(host string, at time.Time) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if node := c.host(host); node != nil {
		node.KeyExpiry = at
		c.UpdateNode(node)
	}
}

// setFeature changes the answer to the query for features; null is that there is no such thing.
func (c *control) setFeature(answer json.RawMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feature = answer
	if string(answer) == "null" {
		c.feature = nil
	}
}

// setRefusing cuts all connections and takes no more, or takes them again.
func (c *control) setRefusing(refusing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusing = refusing
	if refusing {
		for connection := range c.open {
			connection.Close()
		}
		clear(c.open)
	}
}

// listener is where hosts reach the server, while it does not refuse.
type listener struct {
	net.Listener
	control *control
}

func (l listener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.control.mu.Lock()
		refused := l.control.refusing
		if !refused {
			l.control.open[connection] = true
		}
		l.control.mu.Unlock()
		if !refused {
			return connection, nil
		}
		connection.Close()
	}
}
