"""TCP connections: raw, lines or framed; plugin, driver and simulator."""
