"""The root half: a closed set of verbs over a unix socket, and the agent's way to it.

The half is `half` (the process), `server`, `exchange` and `call` (one connection); the agent's side `client`,
`conversation` (one connection), and its two ways, `unit` and `child`. `frames` is what goes over the socket.
"""
