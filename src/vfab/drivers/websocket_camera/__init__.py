"""Cameras that send pictures as WebSocket messages."""
