"""What the OpenAPI document promises, tried with an operator's rights: no 500, no answer that it does not name.

What is tried is the same each time. FIELDLINE_API_EXAMPLES says of how many examples of each operation, and another
FIELDLINE_API_SEED tries others.
"""
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

import installation
from api import Site, eventually
from installation import Installation

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# A stream of events ends when the caller goes: there is no whole answer to check, so what it answers is tried by hand.
STREAM = "/api/events"
# Of each operation, both as the document has them and otherwise: of what may or may not be there, and of what is.
EXAMPLES = int(os.environ.get("FIELDLINE_API_EXAMPLES", "8"))
OF_WHAT_IS_THERE = max(1, EXAMPLES // 3)
SEED = os.environ.get("FIELDLINE_API_SEED")
PROBLEM = "application/problem+json"
LISTENERS, STREAMS = 64, 32
PASSWORD = "correct horse battery"
# What is hardly ever made up, and must be right for an operation to do what it is for.
RIGHT: dict[str, dict[str, Any]] = {
    "POST /api/session": {"body": {"user": "ann", "password": PASSWORD}},
    "POST /api/users": {"body": {"name": "ben", "role": "field", "password": PASSWORD}},
    "POST /api/users/{name}": {"body": {"role": "field"}},
    "POST /api/tickets": {"body": {"user": "guest", "role": "viewer"}},
    "POST /api/topics": {"body": {"name": "another"}},
    "POST /api/sites": {"body": {"site": "edge-8", "certificate_sha256": "8" * 64}},
    "POST /api/sites/{site}/revoke": {"body": {"reason": "it was lost"}},
    "POST /api/link": {"body": {"budget": {"cap": "2MB"}}},
    "POST /api/assets/{id}/order": {"body": {"to": "first"}},
    "POST /api/assets/{id}/withdraw": {"body": {"reason": "shows a face"}},
    "POST /api/services/{name}/log-level": {"body": {"level": "debug"}},
    "GET /api/requests": {"query": {"site": "edge-1"}},
}
# What nobody can do in a demo with a script's rights: other tests do each of them.
NOT_DONE_HERE = {
    "POST /api/session/password",
    "POST /api/set-up/connect",
    "POST /api/dead-letters/{topic}/{partition}/{offset}/redrive",
}


@pytest.fixture(scope="module")
def thrown_away(directory: Path) -> Iterator[Installation]:
    """A demo that nobody else looks at: what is tried deletes topics, stops services and revokes edges."""
    running = installation.demo(directory / "thrown-away", core_settings='[feed]\ninterval = "500ms"\n')
    yield running
    running.stop()


def document(site: Site) -> dict[str, Any]:
    return requests.get(f"{site.url}/api/openapi.json", timeout=20).json()


def operations(site: Site) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and what is said of it."""
    paths = document(site)["paths"]
    return [(method.upper(), path, said) for path, item in paths.items() for method, said in item.items()]


def reasons(error: BaseException) -> str:
    inner = getattr(error, "exceptions", None)
    return "; ".join(reasons(one) for one in inner) if inner else f"{type(error).__name__}: {error}"


@dataclass
class Tried:
    """What became of trying a site's operations: the answers that the document does not name, and all that there were."""

    broken: list[str] = field(default_factory=list)
    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


def what_is_there(site: Site) -> dict[str, list[dict[str, str]]]:
    """By the beginning of an operation or its path, the first that fits: what its open parts may be so that there is something."""
    offered = {"state": "broadcast" if site.name == "core" else "available"}
    eventually(60, "there are assets", lambda: len(site.assets(**offered)) > 8)
    site.post("/api/users", {"name": "ann", "role": "viewer", "password": PASSWORD})
    site.post("/api/topics", {"name": "tried"})
    # Read once, for others arrive.
    first, second, *more = (one["asset_id"] for one in site.assets(**offered)[:5])
    any_two = [{"id": first}, {"id": second}]
    there = {
        # Only what was made for it is deleted: without its own topics a site has no answers.
        "DELETE /api/topics/": [{"topic": "tried"}],
        "/api/topics/": [{"topic": "service-status"}, {"topic": "tried"}],
        "/api/users/": [{"name": "ann"}],
        "/api/services/": [{"name": "listener" if "edge" in site.name else "feed"}, {"name": "viewer"}],
        "/api/sites/": [{"site": "edge-9"}],
    }
    if site.name == "core":
        site.post("/api/sites", {"site": "edge-9", "certificate_sha256": "9" * 64})
        return {**there, "/api/assets/": any_two}
    mirrored, ordered, cancelled = more
    site.post(f"/api/assets/{mirrored}/request")
    eventually(60, "headquarters answers", lambda: site.state(mirrored) == "ready")
    site.post("/api/mirror/start")
    eventually(60, "the bytes arrive", lambda: site.state(mirrored) == "mirrored")
    # One that still works would bring these too.
    site.stop_mirror()
    for asset_id in (ordered, cancelled):
        site.post(f"/api/assets/{asset_id}/request")
    return {
        **there,
        "POST /api/assets/{id}/order": [{"id": ordered}],
        "POST /api/assets/{id}/cancel": [{"id": cancelled}],
        "/api/assets/": [{"id": mirrored}, *any_two],
    }


Round = tuple[int, list[GenerationMode], dict[str, Any]]


def rounds(label: str, path: str, there: dict[str, list[dict[str, str]]]) -> list[Round]:
    """How many examples of an operation, as the document has them or otherwise, and what of them is not made up."""
    both = list(GenerationMode)
    known = next((parts for start, parts in there.items() if label.startswith(start) or path.startswith(start)), [])
    known = [{"path_parameters": parts} for parts in known if "{" in path]
    right = [(1, [GenerationMode.POSITIVE], {**parts, **RIGHT[label]}) for parts in known or [{}] if label in RIGHT]
    return [*right, (EXAMPLES, both, {}), *((OF_WHAT_IS_THERE, both, parts) for parts in known)]


def try_out(site: Site, said: dict[str, Any], there: dict[str, list[dict[str, str]]]) -> Tried:
    """Sends what fits the document and what does not to every operation."""
    schema = schemathesis.openapi.from_dict(said).exclude(path=STREAM)
    headers = {"authorization": f"Bearer {site.token}", "x-fieldline": "1"}
    tried = Tried()
    for found in schema.get_all_operations():
        operation = found.ok()
        for examples, modes, fixed in rounds(operation.label, operation.path, there):
            for mode in modes:
                try:
                    strategy = operation.as_strategy(generation_mode=mode, **fixed)

                    @settings(
                        max_examples=examples,
                        deadline=None,
                        derandomize=SEED is None,
                        database=None,
                        phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck),
                    )
                    @given(case=strategy)
                    def hold(case: schemathesis.Case) -> None:
                        if "follow" in (case.query or {}):
                            # A record stream that follows its topic never ends either.
                            case.query["follow"] = "false"
                        answer = case.call(base_url=site.url, headers=headers, timeout=30)
                        tried.statuses[operation.label].add(answer.status_code)
                        case.validate_response(answer, checks=CHECKS)

                    (hold if SEED is None else seed(int(SEED))(hold))()
                except Unsatisfiable:
                    # Nothing can be wrong with an operation that takes nothing.
                    continue
                except (Exception, FailureGroup) as error:
                    tried.broken.append(f"{operation.label} {fixed or ''} at {site.name}, {mode.value}: {reasons(error)}")
    return tried


@pytest.fixture(scope="module")
def tried(thrown_away: Installation) -> dict[str, Tried]:
    # What an edge has comes from the core, so that is tried last.
    order = sorted(thrown_away.sites.values(), key=lambda site: site.name == "core")
    there = {site.name: what_is_there(site) for site in order}
    return {site.name: try_out(site, document(site), there[site.name]) for site in order}


@pytest.mark.parametrize("name", ["core", "edge-1"])
def test_a_site_answers_as_its_document_says(tried: dict[str, Tried], name: str) -> None:
    assert not tried[name].broken, "\n\n".join(tried[name].broken)


def test_every_operation_was_also_tried_with_success(tried: dict[str, Tried]) -> None:
    done = {label for one in tried.values() for label, found in one.statuses.items() if any(200 <= status < 300 for status in found)}
    every = {label for one in tried.values() for label in one.statuses}
    assert every - done == NOT_DONE_HERE


def test_an_answer_that_the_document_does_not_name_is_found(thrown_away: Installation) -> None:
    """Were the check blind, the tests above would pass whatever a site answers."""
    said = document(thrown_away.edge)
    path = "/api/assets/{id}"
    one = said["paths"][path]["get"]
    del one["responses"]["404"]
    said["paths"] = {path: {"get": one}}
    found = try_out(thrown_away.edge, said, {})
    assert found.broken and "UndefinedStatusCode" in found.broken[0]


def refusal(method: str, url: str, headers: dict[str, str], body: str) -> requests.Response:
    """Who is refused before all was sent may find the line cut, and comes again."""
    for _ in range(3):
        try:
            return requests.request(method, url, headers=headers, data=body, timeout=20)
        except requests.ConnectionError:
            continue
    return requests.request(method, url, headers=headers, data=body, timeout=20)


def filled(path: str) -> str:
    return path.replace("{", "").replace("}", "")


def promised(said: dict[str, Any], answer: requests.Response, status: int) -> None:
    """An answer is the one that was provoked, and the document names it as what it is."""
    what = f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:200]}"
    assert answer.status_code == status, what
    named = said["responses"].get(str(status))
    assert named, f"{what} is not in the document"
    kind = answer.headers["content-type"].split(";")[0]
    assert kind in named["content"], f"{what} is {kind}"


@pytest.mark.parametrize("name", ["core", "edge-1"])
def test_what_every_operation_refuses_is_named_by_each(thrown_away: Installation, name: str) -> None:
    site = thrown_away.sites[name]
    bearer = {"authorization": f"Bearer {site.token}"}
    change, as_json = {"x-fieldline": "1"}, {"content-type": "application/json"}
    for method, path, said in operations(site):
        for status, headers, body in (
            (421, {**bearer, **change, **as_json, "host": "evil.example"}, "{}"),
            (401, {**change, **as_json, "authorization": "Bearer wrong"}, "{}"),
            (403, {**bearer, **as_json}, "{}"),
            (415, {**bearer, **change, "content-type": "text/plain"}, "{}"),
            (413, {**bearer, **change, **as_json}, " " * 70_000),
            (400, {**bearer, **change, **as_json}, "["),
        ):
            if method == "GET" and status not in (421, 401) or method == "DELETE" and status in (415, 400):
                continue
            promised(said, refusal(method, site.url + filled(path), headers, body), status)


def test_a_method_that_a_path_does_not_have_is_told_which_it_has(thrown_away: Installation) -> None:
    for site in thrown_away.sites.values():
        # Each by a connection of its own: one that was not used for a while is gone, and a change is not sent twice.
        headers = {"authorization": f"Bearer {site.token}", "x-fieldline": "1"}
        for path, item in document(site)["paths"].items():
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {one.upper() for one in item}:
                answer = requests.request(method, site.url + filled(path), headers=headers, json={}, timeout=20)
                what = f"{method} {path}: {answer.status_code}"
                assert answer.status_code == 405 and answer.headers["content-type"] == PROBLEM, what
                allowed = {one.strip() for one in answer.headers["allow"].split(",")} - {"HEAD"}
                assert allowed == {one.upper() for one in item}, what


def test_a_stream_of_events_answers_as_the_document_says(thrown_away: Installation) -> None:
    site = thrown_away.core
    said = document(site)["paths"][STREAM]["get"]
    url = site.url + STREAM
    with ExitStack() as streams:
        listen = lambda: streams.enter_context(site.http.get(url, stream=True, timeout=20))  # noqa: E731
        first = listen()
        assert first.status_code == 200 and first.headers["content-type"] in said["responses"]["200"]["content"]
        # Held to the end: who forgets to read on has left.
        lines = first.iter_lines(chunk_size=1)
        assert next(lines).startswith(b"id: ")
        for _ in range(LISTENERS - 1):
            assert listen().status_code == 200
        late = site.http.get(url, timeout=20)
        promised(said, late, 503)
        assert int(late.headers["retry-after"]) > 0
    promised(said, site.http.get(f"{url}?topics=weather", timeout=20), 400)
    promised(said, site.http.get(f"{url}?tpics=assets", timeout=20), 400)
    promised(said, requests.get(url, timeout=20), 401)

    def there_is_room() -> bool:
        with site.http.get(url, stream=True, timeout=20) as again:
            return again.status_code == 200

    eventually(60, "who left makes room", there_is_room)


def test_records_that_are_followed_come_as_lines_until_there_are_too_many_streams(thrown_away: Installation) -> None:
    site = thrown_away.core
    topic = "asset-pipeline"
    said = document(site)["paths"]["/api/topics/{topic}/records"]["get"]
    url = f"{site.url}/api/topics/{topic}/records?follow=true"
    with ExitStack() as streams:
        follow = lambda: streams.enter_context(site.http.get(url, stream=True, timeout=20))  # noqa: E731
        first = follow()
        assert first.status_code == 200 and first.headers["content-type"] in said["responses"]["200"]["content"]
        lines = first.iter_lines(chunk_size=1)
        assert json.loads(next(lines))["topic"] == topic
        for _ in range(STREAMS - 1):
            assert follow().status_code == 200
        promised(said, site.http.get(url, timeout=20), 503)


def test_nobody_learns_anything_without_signing_in(thrown_away: Installation) -> None:
    for site in thrown_away.sites.values():
        for method, path, _ in operations(site):
            if path == "/api/session" and method != "DELETE":
                continue
            answer = requests.request(method, site.url + filled(path), headers={"x-fieldline": "1"}, json={}, timeout=20)
            assert answer.status_code == 401, f"{method} {path} of {site.name}: {answer.status_code}"
