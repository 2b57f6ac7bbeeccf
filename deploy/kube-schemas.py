#!/usr/bin/env python3
"""Makes strict JSON schemas for kubeconform from the OpenAPI document in the k8s.io/kubernetes Go module.

usage: kube-schemas.py SWAGGER.JSON DIRECTORY
"""
import copy
import json
import pathlib
import sys

PREFIX = "#/definitions/"
# Types that take either form, which their Go fields do not show.
OPEN = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
}
GO_FORMATS = {"int-or-string", "byte", "date-time", "int32", "int64", "double"}


def inline(definitions, node, inside=()):
    """Replaces references by what they name, and closes each object to unknown fields."""
    if isinstance(node, list):
        return [inline(definitions, item, inside) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        name = node["$ref"].removeprefix(PREFIX)
        if name in OPEN:
            return copy.deepcopy(OPEN[name])
        return {} if name in inside else inline(definitions, definitions[name], (*inside, name))
    made = {}
    for key, value in node.items():
        if (key == "description" and isinstance(value, str)) or key.startswith("x-kubernetes-"):
            continue
        if key == "format" and isinstance(value, str) and value in GO_FORMATS:
            continue
        made[key] = inline(definitions, value, inside)
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def main(swagger, directory):
    definitions = json.loads(pathlib.Path(swagger).read_text())["definitions"]
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, definition in definitions.items():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if len(kinds) != 1:
            continue
        group, version, kind = (kinds[0][part] for part in ("group", "version", "kind"))
        schema = inline(definitions, definition, (name,))
        properties = schema.get("properties", {})
        if "apiVersion" in properties:
            properties["apiVersion"] = {"enum": [f"{group}/{version}" if group else version]}
            properties["kind"] = {"enum": [kind]}
        parts = [kind.lower(), *([group.split(".")[0]] if group else []), version]
        (directory / ("-".join(parts) + ".json")).write_text(json.dumps(schema))


if __name__ == "__main__":
    main(*sys.argv[1:3])
