package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver is the public's: it knows the names of the tailnet's hosts, which are all at the relay (RFC 8484).
type resolver struct {
	control *control
	relay   netip.Addr
}

func (v *resolver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	packed, err := io.ReadAll(io.LimitReader(r.Body, 65535))
	if r.Method == http.MethodGet {
		packed, err = base64.RawURLEncoding.DecodeString(r.FormValue("dns"))
	}
	var asked dnsmessage.Message
	if err == nil {
		err = asked.Unpack(packed)
	}
	if err != nil || len(asked.Questions) != 1 {
		http.Error(w, "not a question", http.StatusBadRequest)
		return
	}
	said := v.answer(asked)
	packed, err = said.Pack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/dns-message")
	w.Write(packed)
}

func (v *resolver) answer(asked dnsmessage.Message) dnsmessage.Message {
	question := asked.Questions[0]
	said := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: asked.ID, Response: true, RecursionDesired: asked.RecursionDesired, RecursionAvailable: true},
		Questions: asked.Questions,
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	if v.control.host(strings.TrimSuffix(name, "."+domain)) == nil {
		said.RCode = dnsmessage.RCodeNameError
	} else if question.Type == dnsmessage.TypeA {
		said.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: v.relay.As4()},
		}}
	}
	return said
}
