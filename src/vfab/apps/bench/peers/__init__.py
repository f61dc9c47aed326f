"""Other ways to call another process. Each module is both ends: the client here, the server with `python -m`.

Every peer gets a persistent connection and the fastest settings that its documentation names. A server serves until
its standard input is closed: whatever happens to the bench, none is left.
"""
