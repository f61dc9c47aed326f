"""The child process that runs one driver for one device. Nothing imports this room; the kernel starts it."""
