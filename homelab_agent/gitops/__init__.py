"""The capability `gitops`: from a signed push to a proven deployment."""
