"""Modbus TCP and RTU devices: plugin, driver and simulator."""
