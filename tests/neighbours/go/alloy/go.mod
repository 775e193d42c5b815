module homelab-agent/tests/neighbours/alloy

go 1.26.5

require (
	github.com/grafana/alloy v1.19.0
	github.com/grafana/alloy/syntax v0.1.2
)
