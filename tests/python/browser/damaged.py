"""A headquarters with requests that it cannot read: a newer program wrote them, or a disk has damaged them."""
import hashlib
from pathlib import Path

import installation
import stored
from api import Site, eventually
from installation import Installation

NEWER = hashlib.sha256(b"a schema of the next version").digest()[:4]
TOPIC = "edge-1.ASSET_REQUEST"


def asked(core: Site) -> int:
    """How many requests of the edge are at headquarters."""
    return sum(one["high"] - one["low"] for one in core.get(f"/api/topics/{TOPIC}")["offsets"])


def demo(directory: Path, count: int, core_settings: str = "") -> Installation:
    """One whose edge has asked for so many assets; responder meets the requests once it is started."""
    first = installation.demo(directory, core_settings=core_settings)
    try:
        first.core.post("/api/services/responder/stop")
        eventually(60, "assets have arrived", lambda: first.edge.get("/api/assets?limit=1")["total"] >= 2 * count)
        eventually(60, "responder pauses", lambda: first.core.service("responder")[0]["state"] == "paused")
        for asset in first.edge.get(f"/api/assets?limit={count}")["assets"]:
            first.edge.post(f"/api/assets/{asset['asset_id']}/request")
        eventually(60, "the requests are at headquarters", lambda: asked(first.core) == count)
    finally:
        first.stop()
    # They may share a partition.
    assert stored.change(directory / "data/core", TOPIC, lambda value: value[:1] + NEWER + value[5:], last=count) == count
    return installation.demo(directory, port=first.port)
