"""What the OpenAPI document promises, tried by schemathesis with an operator's rights: no 500, no answer it does not name."""
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

import installation
from api import Site
from installation import Installation

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# A stream of events ends when the caller goes: there is no whole answer to check; the pages of the other tests listen to it.
STREAMS = "/api/events"
# Of each operation, both as the document has them and otherwise.
EXAMPLES = 12


@pytest.fixture(scope="module")
def thrown_away(directory: Path) -> Iterator[Installation]:
    """A demo that nobody else looks at: what is tried deletes topics, stops services and revokes edges."""
    running = installation.demo(directory / "thrown-away", core_settings='[feed]\ninterval = "500ms"\n')
    yield running
    running.stop()


def reasons(error: BaseException) -> str:
    inner = getattr(error, "exceptions", None)
    return "; ".join(reasons(one) for one in inner) if inner else f"{type(error).__name__}: {error}"


def broken_promises(site: Site) -> list[str]:
    """Sends what fits the document and what does not to every operation, and collects the answers that it does not name."""
    schema = schemathesis.openapi.from_url(f"{site.url}/api/openapi.json").exclude(path=STREAMS)
    headers = {"authorization": f"Bearer {site.token}", "x-fieldline": "1"}
    broken: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            try:
                strategy = operation.as_strategy(generation_mode=mode)

                @settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=strategy)
                def hold(case: schemathesis.Case) -> None:
                    if "follow" in (case.query or {}):
                        # A record stream that follows its topic never ends either.
                        case.query["follow"] = "false"
                    case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

                hold()
            except Unsatisfiable:
                # Nothing can be wrong with an operation that takes nothing.
                continue
            except (Exception, FailureGroup) as error:
                broken.append(f"{operation.label} at {site.name}, {mode.value}: {reasons(error)}")
    return broken


def test_the_core_answers_as_its_document_says(thrown_away: Installation) -> None:
    broken = broken_promises(thrown_away.core)
    assert not broken, "\n\n".join(broken)


def test_the_edge_answers_as_its_document_says(thrown_away: Installation) -> None:
    broken = broken_promises(thrown_away.edge)
    assert not broken, "\n\n".join(broken)


def test_nobody_learns_anything_without_signing_in(thrown_away: Installation) -> None:
    for site in thrown_away.sites.values():
        paths = requests.get(f"{site.url}/api/openapi.json", timeout=10).json()["paths"]
        for path, methods in paths.items():
            for method in methods:
                if path == "/api/session" or path == "/api/openapi.json":
                    continue
                answer = requests.request(
                    method, site.url + path.replace("{", "").replace("}", ""), headers={"x-fieldline": "1"}, json={}, timeout=10
                )
                assert answer.status_code == 401, f"{method} {path} of {site.name}: {answer.status_code}"
