"""One running site, asked over its API as any script would."""
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests
from playwright.sync_api import Error

T = TypeVar("T")


def eventually(limit_s: float, what: str, attempt: Callable[[], T]) -> T:
    """Tries until the answer is true, at most `limit_s` long; the last failure becomes the error.

    A page is drawn anew while one works with it, so what is not there any more is looked for again.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if found := attempt():
                return found
            last: Exception | None = None
        except (requests.RequestException, AssertionError, Error) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}") from last
        time.sleep(0.1)


@dataclass
class Site:
    """A site's viewer, as the operator on the command line sees it."""

    name: str
    url: str
    token: str
    log: str = ""
    http: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        # Each by a connection of its own: one that was not used for a while is gone, and a change is not sent twice.
        self.http.headers.update({"authorization": f"Bearer {self.token}", "x-fieldline": "1", "connection": "close"})

    def get(self, path: str) -> Any:
        answer = self.http.get(self.url + path, timeout=20)
        assert answer.ok, f"{self.name} answered {answer.status_code}: {answer.text}"
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(self.url + path, json=body if body is not None else {}, timeout=30)
        assert answer.ok, f"{self.name} answered {answer.status_code}: {answer.text}"
        return answer.json() if answer.content else None

    def assets(self, **query: Any) -> list[dict[str, Any]]:
        """All assets that fit, over all pages."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            words = "&".join(f"{key}={value}" for key, value in {"limit": 1000, "after": after, **query}.items())
            page = self.get(f"/api/assets?{words}")
            found += page["assets"]
            after = page["next"]
            if not after:
                return found

    def state(self, asset_id: str) -> str:
        return self.get(f"/api/assets/{asset_id}")["state"]

    def service(self, name: str) -> list[dict[str, Any]]:
        return [service for service in self.get("/api/services")["services"] if service["service"] == name]

    def stop_mirror(self) -> None:
        """Nothing moves from now on: what is ready stays so."""
        self.post("/api/mirror/stop")
        eventually(60, "the mirror rests", lambda: all(one["state"] == "paused" for one in self.service("mirror")))


def resident_bytes(pid: int, kind: str = "VmRSS") -> int:
    """What a process holds in memory, as /proc says it."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith(f"{kind}:"))
    return int(line.split()[1]) * 1024
