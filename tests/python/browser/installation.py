"""Installations of Fieldline as real processes: the demo on embedded engines, or each service on its own on real ones, or a small
edge on engines of its own whose headquarters is on real ones."""
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from api import Site, eventually
from line import Line

PROGRAMS = Path(os.environ.get("FIELDLINE_PROGRAMS", Path(__file__).parents[3] / "target/debug"))
CORE_SERVICES = ("viewer", "responder", "broadcaster", "downloader", "depot", "feed")
EDGE_SERVICES = ("viewer", "listener", "requester", "mirror", "link")
# Complaints on the way there are JSON too.
PRINTED = re.compile(r'^\{.*"sites":.*\}$')


# Where the system takes none for who calls somebody, and the tests in Rust and their engines take none either: what was
# free stays free, also while an installation is down.
PORTS = range(11_000, 20_000)
# Each process of tests that run at once has a part of them.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Its own: what tests make up is the same each time.
_chance = random.SystemRandom()
_given: set[int] = set()


def free_ports(count: int) -> int:
    """The first of so many neighbouring ports that nobody listens at, and that nobody else is given."""
    part = len(PORTS) // _WORKERS
    first = PORTS.start + _WORKER % _WORKERS * part
    for _ in range(1000):
        port = _chance.randrange(first, first + part - count)
        row = range(port, port + count)
        if _given.isdisjoint(row) and all(map(_is_free, row)):
            _given.update(row)
            return port
    raise RuntimeError(f"there are no {count} free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Process:
    """A program, its lines, and when each was printed."""

    # Every one that was started, for who wants to read what it said.
    started: list["Process"] = []

    def __init__(self, name: str, words: list[str | Path], log: Path):
        self.name, self.words, self.log = name, words, log
        self.began = time.monotonic()
        self.lines: list[tuple[float, str]] = []
        self._arrived = threading.Condition()
        self._file = log.open("a", encoding="utf-8")
        self.child = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        Process.started.append(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.child.pid

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._file.write(line)
            self._file.flush()
            with self._arrived:
                # Only what a program says at its start is ever looked for.
                if len(self.lines) < 1000:
                    self.lines.append((time.monotonic() - self.began, line.rstrip("\n")))
                self._arrived.notify_all()

    def wait_for(self, pattern: re.Pattern[str], limit_s: float, count: int = 1) -> list[tuple[float, re.Match[str]]]:
        """The first lines that have the pattern, each with the seconds it took."""
        deadline = self.began + limit_s

        def found() -> list[tuple[float, re.Match[str]]]:
            return [(at, match) for at, line in self.lines if (match := pattern.search(line))]

        with self._arrived:
            while len(found()) < count:
                left = deadline - time.monotonic()
                if left <= 0 or self.child.poll() is not None:
                    raise AssertionError(f"{self.name} did not print {pattern.pattern!r}; its log: {self.tail()}")
                self._arrived.wait(min(left, 0.5))
            return found()

    def kill(self) -> None:
        """As kill -9 does."""
        self.child.kill()
        self.child.wait()

    def again(self) -> "Process":
        """Starts the program again after it ended."""
        self.stop()
        return Process(self.name, self.words, self.log)

    def stop(self) -> None:
        """As an orchestrator does."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(5)
        self._file.close()
        self.child.stdout.close()

    def tail(self, count: int = 20) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-count:])


@dataclass
class Installation:
    """A core, its edges, and the processes they are."""

    directory: Path
    sites: dict[str, Site]
    processes: dict[str, Process]
    links: dict[str, str] = field(default_factory=dict)
    real: bool = False
    addresses_after_s: float = 0.0
    # What the edge's link goes over, where it goes over one.
    line: Line | None = None

    @property
    def core(self) -> Site:
        return self.sites["core"]

    @property
    def edge(self) -> Site:
        return self.sites["edge-1"]

    @property
    def port(self) -> int:
        """Where a demo begins: what it serves to others has fixed ports after it, and addresses of them are stored."""
        return int(self.core.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.stop()
        if self.line:
            self.line.end()


def demo(
    directory: Path, *, edges: int = 1, catalogue: str = "", core_settings: str = "", more: tuple[str, ...] = (), port: int = 0,
    places: int = 0,
) -> Installation:
    """`fieldline demo`, once it has printed its addresses; it goes on with what an earlier one left in the directory.

    Its ports are as if there were so many `places` for edges.
    """
    directory.mkdir(parents=True, exist_ok=True)
    places = max(edges, places)
    # The pages', then the depot's and feed's.
    port = port or free_ports(places + 3)
    settings = directory / "more.toml"
    settings.write_text(core_settings, encoding="utf-8")
    words: list[str | Path] = [PROGRAMS / "fieldline", "demo", "--json", "--dir", directory / "data", "--edges", str(edges)]
    words += ["--port", str(port), "--depot-port", str(port + places + 1), "--feed-port", str(port + places + 2)]
    words += ["--core-config", settings, *(["--catalogue", catalogue] if catalogue else []), *more]
    process = Process("demo", words, directory / "demo.log")
    try:
        [(at, line), *_] = process.wait_for(PRINTED, 60)
        printed = {place["site"]: place for place in json.loads(line[0])["sites"]}
        sites = {name: Site(name, place["url"], token(Path(place["token_file"]))) for name, place in printed.items()}
        links = {name: place["link"] for name, place in printed.items()}
        return Installation(directory, sites, {"demo": process}, links, addresses_after_s=at)
    except BaseException:
        process.stop()
        raise


def edge_alone(of: Installation, core: str) -> Installation:
    """The first edge of a demo that has ended, on what it has stored, with its headquarters at another address and a route of its own."""
    home, certs = of.directory / "data/edge-1", of.directory / "data/certs"
    port = int(of.edge.url.rsplit(":", 1)[1])
    file = of.directory / "edge-alone.toml"
    file.write_text(
        f'[common]\nsite = "edge-1"\n[common.log]\nlevel = "warn"\n[common.broker]\nurl = "sqlite://{home}/broker.db"\n'
        f'[common.table]\nurl = "sqlite://{home}/table.db"\n[common.volume]\nurl = "file://{home}/volume"\n'
        f'[link.core]\nurl = "{core}"\n[[link.extra_routes]]\nname = "readings"\ndirection = "up"\ntopics = ["readings"]\n'
        f'rename = "prefix"\n[mirror]\ndepot = "https://127.0.0.1:1"\n{_tls("mirror", certs, "sites/edge-1")}'
        f'[viewer]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{home}/viewer.token"\n',
        encoding="utf-8",
    )
    process = Process("edge-1", [PROGRAMS / "fieldline", "run", "--edge", file], of.directory / "edge-alone.log")
    alone = Installation(of.directory, {"edge-1": of.edge}, {"edge-1": process})
    try:
        eventually(60, "the edge answers", lambda: alone.edge.get("/api/site"))
    except BaseException:
        alone.stop()
        raise
    return alone


def token(file: Path) -> str:
    """What the command line shows a site's viewer."""
    return file.read_text(encoding="ascii").strip() if file.exists() else ""


def real(directory: Path, catalogue: str, *, small: bool = False) -> Installation:
    """A core and an edge on real Kafka and Cassandra, each service its own process; a small edge is one process on embedded engines."""
    directory.mkdir(parents=True, exist_ok=True)
    core_port = free_ports(5)
    edge_port, depot_port, feed_port, door_port = (core_port + place for place in range(1, 5))
    run = lambda *words: subprocess.run([PROGRAMS / "fieldline", *words], cwd=directory, check=True, timeout=120)  # noqa: E731
    run("certs", "--dir", "certs", "--server", "127.0.0.1", "--site", "edge-1")
    certs = directory / "certs"
    core = directory / "core.toml"
    core.write_text(
        _common(directory, "core", "KAFKA_URL")
        + f'[feed]\ncatalogue = "{catalogue}"\ninterval = "2s"\nrepeat = true\nserve = "127.0.0.1:{feed_port}"\n'
        + f'[downloader]\nallow = ["127.0.0.1"]\n[depot]\nlisten = "127.0.0.1:{depot_port}"\n'
        + _tls("depot", certs, "servers/127.0.0.1")
        + _viewer(directory, "core", core_port),
        encoding="utf-8",
    )
    edge = directory / "edge-1.toml"
    edge.write_text(
        _common(directory, "edge-1", "" if small else "KAFKA_EDGE_URL")
        + f'[link]\nstate = "{directory}/edge-1/link"\n[link.core]\nurl = "kafka://{_engine("KAFKA_LINE")}"\n'
        + f'[link.door]\nlisten = "127.0.0.1:{door_port}"\nallow = ["127.0.0.1:{depot_port}"]\n'
        + f'[mirror]\ndoor = "127.0.0.1:{door_port}"\ndepot = "https://127.0.0.1:{depot_port}"\n'
        + _tls("mirror", certs, "sites/edge-1")
        + _viewer(directory, "edge-1", edge_port),
        encoding="utf-8",
    )
    # Who connects to the far port is led to the line's.
    line = Line(_address("KAFKA_FAR"), _address("KAFKA_LINE"))
    run("init", "--core", core, "--certs", certs, "--enrol", "edge-1")
    run("init", "--edge", edge)
    words = {f"core.{service}": [PROGRAMS / service, "--config", core] for service in CORE_SERVICES}
    if small:
        words["edge-1"] = [PROGRAMS / "fieldline", "run", "--edge", edge]
    else:
        words |= {f"edge-1.{service}": [PROGRAMS / service, "--config", edge] for service in EDGE_SERVICES}
    processes = {name: Process(name, of, directory / f"{name}.log") for name, of in words.items()}
    installation = Installation(directory, {}, processes, real=True, line=line)
    try:
        for site, port in (("core", core_port), ("edge-1", edge_port)):
            file = directory / site / "viewer.token"
            known = eventually(60, f"{site} makes its token", lambda file=file: token(file))
            installation.sites[site] = Site(site, f"http://127.0.0.1:{port}", known)
            eventually(60, f"{site} answers", lambda site=site: installation.sites[site].get("/api/site"))
    except BaseException:
        installation.stop()
        raise
    return installation


def _engine(variable: str) -> str:
    url = os.environ.get(variable)
    assert url, f"{variable} is not set; `cargo xtask test-browser --engines real` starts the engines and sets it"
    return url


def _address(variable: str) -> tuple[str, int]:
    host, port = _engine(variable).rsplit(":", 1)
    return host, int(port)


def _common(directory: Path, site: str, broker: str) -> str:
    """What all services of a site have: real engines, or embedded ones where no broker is named."""
    home = directory / site
    home.mkdir()
    broker_url, table_url = f"sqlite://{home}/broker.db", f"sqlite://{home}/table.db"
    if broker:
        node = _engine("CASSANDRA_URL")
        node = node.rsplit("/", 1)[0] if node.count("/") > 2 else node
        broker_url, table_url = _engine(broker), f"{node}/browser_{os.getpid()}_{site.replace('-', '_')}"
    return (
        f'[common]\nsite = "{site}"\n[common.log]\nformat = "json"\nlevel = "info"\n'
        f'[common.broker]\nurl = "{broker_url}"\n[common.table]\nurl = "{table_url}"\n'
        f'[common.volume]\nurl = "file://{home}/volume"\n'
    )


def _tls(section: str, certs: Path, name: str) -> str:
    return f'[{section}.tls]\nca = "{certs}/ca.crt"\ncertificate = "{certs}/{name}.crt"\nkey = "{certs}/{name}.key"\n'


def _viewer(directory: Path, site: str, port: int) -> str:
    return f'[viewer]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{directory}/{site}/viewer.token"\n'
