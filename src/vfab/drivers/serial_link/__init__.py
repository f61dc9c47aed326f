"""Serial lines, RS-232 and RS-485, here or behind RFC 2217: plugin, driver and simulator."""
