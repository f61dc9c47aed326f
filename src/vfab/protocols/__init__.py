"""Bytes to messages and back, sans-IO, both sides of each protocol."""
