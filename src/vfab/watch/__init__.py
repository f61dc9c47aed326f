"""Probes and resource usage: what drivers cost this machine. Knows processes by their number only, not the kernel."""
