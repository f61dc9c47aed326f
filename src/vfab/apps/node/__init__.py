"""The node: a process that keeps this machine's devices as wanted, and serves its API on a Unix socket."""
