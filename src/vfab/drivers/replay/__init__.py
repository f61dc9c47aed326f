"""Replays recordings: of a link as the device that was recorded, of a stream as a device that streams it again."""
