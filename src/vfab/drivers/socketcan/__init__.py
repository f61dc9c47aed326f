"""CAN buses, by SocketCAN or by what python-can reaches otherwise: plugin, driver and simulator."""
