"""Cameras and video servers that speak RTSP, through FFmpeg."""
