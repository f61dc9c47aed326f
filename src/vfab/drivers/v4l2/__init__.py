"""Cameras of the Linux kernel: USB webcams, camera modules, frame grabbers (/dev/video…)."""
