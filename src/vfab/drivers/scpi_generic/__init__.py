"""Any SCPI instrument on a socket, a serial port or the kernel's USBTMC node."""
