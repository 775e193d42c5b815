// Package converter refuses other programs' configurations: whoever converts them imports every component.
package converter

import "github.com/grafana/alloy/internal/converter/diag"

// Input is the name of a format.
type Input string

// SupportedFormats is none.
var SupportedFormats []string

// Convert says that it cannot.
func Convert(_ []byte, kind Input, _ []string) ([]byte, diag.Diagnostics) {
	var found diag.Diagnostics
	found.Add(diag.SeverityLevelCritical, "this Alloy converts no configuration: "+string(kind))
	return nil, found
}
