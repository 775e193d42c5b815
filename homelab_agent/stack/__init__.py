"""The data infrastructure in containers (compose/): what of it runs here, held against what its file says."""
