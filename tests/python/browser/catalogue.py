"""Directories of small files for `feed` to announce, each a file of its own content."""
import json
import random
import struct
import zlib
from pathlib import Path

SIDE = 8


def png(seed: int, side: int = SIDE) -> bytes:
    """A picture that no other seed gives."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    tint = random.Random(seed).randbytes(3)
    rows = b"".join(
        b"\0" + b"".join(bytes(((part + 20 * x + 11 * y) % 256) for part in tint) for x in range(side))
        for y in range(side)
    )
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    words = chunk(b"tEXt", b"number\0" + str(seed).encode())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + words + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def many(directory: Path, count: int) -> str:
    """Writes so many pictures and names the catalogue."""
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / f"survey-tile-{number:05}.png").write_bytes(png(number))
    return f"dir://{directory}"


def with_sidecars(directory: Path, files: dict[str, tuple[bytes, dict[str, str] | None]]) -> str:
    """Writes files and what is said of them, and names the catalogue."""
    directory.mkdir(parents=True)
    for name, (content, said) in files.items():
        (directory / name).write_bytes(content)
        if said is not None:
            (directory / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")
    return f"dir://{directory}"
