"""The root half: a closed set of verbs over a unix socket, and the agent's way to it.

`server` does the verbs, in a process of its own; `client` calls them; `frames` is what goes over the socket.
"""
