"""The real servers that the agent talks to, as tests start, break and stop them.

One module for each, with the same four rooms: obtain (a `Neighbour`: install or build once), start (a context manager
that gives the running thing), break (its methods), stop (by pid, when the context ends, whatever happened).
"""
