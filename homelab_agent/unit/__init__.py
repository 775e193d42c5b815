"""The agent as a service of systemd: whether it is what the release says, and how far it is confined."""
