"""The agent over HTTP: who may call what, the API, the status page, the metrics exposition."""
