"""The line between a page and its site, or between an edge and its headquarters: it can be cut, and it can go dead without
saying so, as radio does.
"""
import socket
import threading
from dataclasses import replace
from types import TracebackType
from typing import Any

from playwright.sync_api import Page

from api import Site, eventually

PART = 64 * 1024
# A stream that is open and brings nothing but what a test says.
QUIET = """
window.EventSource = class extends EventTarget {
    readyState = 1;
    constructor() {
        super();
        window.stream = this;
        setTimeout(() => this.onopen?.());
    }
    close() {}
};
"""


def push_nothing(page: Page) -> None:
    """From now on a page shows what it reads alone: where a test makes an answer up, the site's own word would replace it."""
    page.add_init_script(QUIET)
    page.reload()


def push(page: Page, kind: str, data: Any) -> None:
    """Pushes something to a page that nothing else is pushed to, and waits until it is taken in."""
    page.evaluate(
        """async ([kind, data]) => {
            window.stream.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(data) }));
            // What comes is put in once a frame.
            for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
        }""",
        [kind, data],
    )


def wait_for_stream(page: Page) -> None:
    """Waits until what happens is pushed to a page. A list that is opened from then on is read once; an earlier one is read
    again, for nobody knows what the site would have pushed meanwhile.
    """
    connected = """async () => {
        const app = document.querySelector("script[type=module]").src;
        const live = await import(new URL("live.js", app));
        return live.state().connected;
    }"""
    eventually(20, "what happens is pushed to the page", lambda: page.evaluate(connected))


Address = tuple[str, int]


class Line:
    """Passes on what two say to each other, until told otherwise."""

    def __init__(self, target: Address, listen: Address = ("127.0.0.1", 0)):
        self._target = target
        self._server = socket.create_server(listen)
        self._open = True
        self._alive = threading.Event()
        self._alive.set()
        self._ends: set[socket.socket] = set()
        # Who is let in while the line is cut is let in before, and cut off, or not at all.
        self._turn = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.getsockname()[1]

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """There is no line any more."""
        self.cut()
        # It waits for the next one no longer.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._alive.set()

    def cut(self) -> None:
        """Ends all connections and takes no new ones."""
        with self._turn:
            self._open = False
            self._end()

    def stall(self) -> None:
        """Carries nothing any more, and ends no connection."""
        self._alive.clear()

    def mend(self) -> None:
        """Takes connections again. What was under way is lost."""
        with self._turn:
            self._end()
            self._alive.set()
            self._open = True

    def _end(self) -> None:
        for end in list(self._ends):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        while True:
            try:
                page, _ = self._server.accept()
            except OSError:
                return
            with self._turn:
                if not self._through(page):
                    page.close()

    def _through(self, page: socket.socket) -> bool:
        if not self._open:
            return False
        try:
            site = socket.create_connection(self._target, timeout=10)
        except OSError:
            return False
        site.settimeout(None)
        self._ends |= {page, site}
        for one, other in ((page, site), (site, page)):
            threading.Thread(target=self._carry, args=(one, other), daemon=True).start()
        return True

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while part := one.recv(PART):
                self._alive.wait()
                other.sendall(part)
        except OSError:
            pass
        finally:
            for end in (one, other):
                self._ends.discard(end)
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class SiteLine(Line):
    """The line between a browser and a site."""

    def __init__(self, site: Site):
        super().__init__(("127.0.0.1", int(site.url.rsplit(":", 1)[1])))
        self.site = replace(site, url=f"http://127.0.0.1:{self.port}")
