"""Frames of the gateway: `id#hex` and a line end."""


def encode(can_id: int, data: bytes) -> bytes:
    return f"{can_id:x}#{data.hex()}\n".encode()


def decode(line: bytes):
    can_id, _, data = line.partition(b"#")
    return int(can_id, 16), bytes.fromhex(data.decode())
