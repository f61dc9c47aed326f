"""WebSocket connections: plugin, driver and simulator."""
