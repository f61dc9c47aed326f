"""Bluetooth LE devices: plugin and driver."""
