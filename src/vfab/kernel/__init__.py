"""This machine's devices as wanted: finding, leasing, supervising."""
