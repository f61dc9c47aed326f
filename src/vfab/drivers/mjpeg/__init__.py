"""Cameras that send JPEGs over HTTP (multipart/x-mixed-replace)."""
