"""Reads what the chart renders (standard input) and says where it breaks a rule that Kubernetes' schemas do not know.

With the directory of built programs as argument, every service also checks the settings that its container would have.
"""

import pathlib
import subprocess
import sys
import tempfile

import yaml

DOOR = ("LINK__DOOR__LISTEN", "MIRROR__DOOR")
ENROLLED = {"link", "mirror", "viewer"}


def environment(container):
    return {entry["name"]: entry["value"] for entry in container["env"]}


def admin_ports(pod, where):
    """One pod has one address, so each container needs an admin port of its own, and its probes must ask there."""
    seen = set()
    for container in pod["containers"]:
        port = environment(container).get("COMMON__ADMIN", "0.0.0.0:9090").rsplit(":", 1)[1]
        if port in seen:
            yield f"{where}: two containers with the admin port {port}"
        seen.add(port)
        ports = {entry["name"]: str(entry["containerPort"]) for entry in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if ports.get(container[probe]["httpGet"]["port"]) != port:
                yield f"{where}: {container['name']}'s {probe} does not ask its admin port"


def door(pods, services):
    """The door knows no callers: it must be on the loopback of one pod, which link and mirror share, and there alone."""
    for where, (pod, replicas) in pods.items():
        names = {container["name"] for container in pod["containers"]}
        if not names & {"link", "mirror"}:
            continue
        if not names >= {"link", "mirror"}:
            yield f"{where}: link and mirror are not in one pod"
        if replicas > 1:
            yield f"{where}: {replicas} pods with a budget each"
        for container in pod["containers"]:
            said = {environment(container).get(name, "") for name in DOOR}
            if len(said) != 1 or not said.pop().startswith("127.0.0.1:"):
                yield f"{where}: {container['name']} is not told of one door on the loopback"
    for service in services:
        if any(port["targetPort"] != "main" for port in service["spec"]["ports"]):
            yield f"{service['metadata']['name']}: leads to something else than a service's main port"


def enrolment(pods):
    """Who needs the enrolment finds it where the settings say; nobody else has it mounted."""
    for where, (pod, _) in pods.items():
        for container in pod["containers"]:
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            if container["name"] not in ENROLLED:
                if "enrolment" in mounts:
                    yield f"{where}: {container['name']} has the enrolment mounted and no use for it"
                continue
            path = environment(container).get("COMMON__ENROLMENT")
            if path and not any(path.startswith(mount["mountPath"] + "/") for mount in mounts.values()):
                yield f"{where}: {container['name']} has nothing mounted where {path} would be"
            if "enrolment" in mounts and not mounts["enrolment"].get("readOnly"):
                yield f"{where}: {container['name']} could write to the secret's enrolment"


def settings(pods, toml, programs):
    """What each service says of the settings that its container would have."""
    with tempfile.TemporaryDirectory() as place:
        file = pathlib.Path(place) / "site.toml"
        file.write_text(toml)
        for where, (pod, _) in pods.items():
            for container in pod["containers"]:
                own = environment(container) | {"CONFIG_FILE": str(file)}
                asked = subprocess.run([programs / container["name"], "check"], env=own, capture_output=True, text=True)
                if asked.returncode:
                    yield f"{where}: {asked.stdout}{asked.stderr}".strip()


def main():
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    kind = lambda name: [document for document in documents if document["kind"] == name]
    pods = {
        document["metadata"]["name"]: (document["spec"]["template"]["spec"], document["spec"]["replicas"])
        for document in kind("Deployment")
    }
    toml = next(document["data"]["site.toml"] for document in kind("ConfigMap"))
    wrong = [problem for where, (pod, _) in pods.items() for problem in admin_ports(pod, where)]
    wrong += [*door(pods, kind("Service")), *enrolment(pods)]
    if len(sys.argv) > 1:
        wrong += settings(pods, toml, pathlib.Path(sys.argv[1]))
    sys.exit("\n".join(wrong) or 0)


main()
