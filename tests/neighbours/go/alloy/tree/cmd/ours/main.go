// Alloy's own command line, without what its release adds to it: Prometheus' discovery, integrations, OpenTelemetry.
package main

import (
	"os"

	"github.com/grafana/alloy"
	"github.com/grafana/alloy/internal/alloycli"
	"github.com/grafana/alloy/internal/build"
)

func main() {
	build.Version = alloy.FallbackVersion()
	if alloycli.Command().Execute() != nil {
		os.Exit(1)
	}
}
