"""Writes the specification's OpenAPI files in the compact form that rhizome-contract reads.

`compact.py SPEC OUT` makes OUT/<api>.json from SPEC/data/api/<api>/*.yaml. What says something to a checker
stays: paths, parameters, schemas, statuses. Prose and examples go. A schema that stands in a file of its own
becomes a definition, once, and is referred to by its name.
"""

import json
import sys
from pathlib import Path

import yaml

APIS = ["client-server", "server-server", "application-service"]
METHODS = ["get", "put", "post", "delete"]
JSON = "application/json"
# The keywords that contract/src/schema.rs understands.
PLAIN = ["type", "required", "enum", "pattern", "minItems", "maxItems", "minProperties", "maxProperties"]
LISTS = ["allOf", "anyOf", "oneOf"]
MAPS = ["properties", "patternProperties"]
ONES = ["items", "additionalProperties"]
SAID = {"$ref", *PLAIN, *LISTS, *MAPS, *ONES}
# What only people read, and `format`, which names a grammar that no schema can check.
UNSAID = {"$schema", "description", "title", "example", "examples", "default", "deprecated", "format"}


class Api:
    """One API's operations and the definitions that they lean on."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}
        self.names = {}
        self.definitions = {}
        self.operations = {}

    def load(self, file):
        if file not in self.files:
            if not file.exists():
                sys.exit(f"{file} is missing: is this a whole checkout?")
            self.files[file] = yaml.safe_load(file.read_text())
        return self.files[file]

    def find(self, ref, file):
        """Where a $ref leads: the file and the value."""
        path, _, inside = ref.partition("#")
        file = (file.parent / path).resolve() if path else file
        value = self.load(file)
        for part in inside.strip("/").split("/") if inside else []:
            value = value[part.replace("~1", "/").replace("~0", "~")]
        return file, value

    def follow(self, value, file):
        """The same, until it is no $ref. Only for what is no schema."""
        while "$ref" in value:
            file, value = self.find(value["$ref"], file)
        return value, file

    def define(self, ref, file):
        """The name of the definition that a $ref leads to."""
        target, value = self.find(ref, file)
        inside = ref.partition("#")[2]
        place = (target, inside)
        if place not in self.names:
            name = inside.rsplit("/", 1)[-1] if inside else target.stem
            while name in self.names.values():
                name += "_"
            self.names[place] = name
            self.definitions[name] = None
            self.definitions[name] = self.schema(value, target)
        return self.names[place]

    def schema(self, schema, file):
        """A schema without what only people read."""
        if isinstance(schema, bool):
            return schema
        if unknown := [key for key in schema if key not in SAID | UNSAID and not key.startswith("x-")]:
            sys.exit(f"{file}: the checker doesn't know {unknown}")
        out = {key: schema[key] for key in PLAIN if key in schema}
        if "$ref" in schema:
            out["$ref"] = self.define(schema["$ref"], file)
        for key in LISTS:
            if key in schema:
                parts = [self.schema(part, file) for part in schema[key]]
                if parts := [part for part in parts if part != {}]:
                    out[key] = parts
        for key in MAPS:
            if key in schema:
                out[key] = {name: self.schema(part, file) for name, part in schema[key].items()}
        for key in ONES:
            if (part := self.schema(schema.get(key, True), file)) not in ({}, True):
                out[key] = part
        if list(out) == ["allOf"] and len(out["allOf"]) == 1:
            return out["allOf"][0]
        return out

    def content(self, holder, file):
        """The schema of a body, or None where anything may come."""
        content = holder.get("content", {})
        if list(content) != [JSON]:
            return None
        return self.schema(content[JSON].get("schema", {}), file)

    def parameter(self, parameter, file):
        parameter, file = self.follow(parameter, file)
        out = {"in": parameter["in"], "name": parameter["name"]}
        if parameter.get("required") and parameter["in"] != "path":
            out["required"] = True
        return out | {"schema": self.schema(parameter["schema"], file)}

    def operation(self, operation, file):
        out = {}
        if (security := operation.get("security")) and {} not in security:
            out["auth"] = True
        parameters = [self.parameter(parameter, file) for parameter in operation.get("parameters", [])]
        unsaid = {"type": "string"}
        if parameters := [one for one in parameters if one["in"] != "path" or one["schema"] != unsaid]:
            out["parameters"] = parameters
        if "requestBody" in operation:
            body, where = self.follow(operation["requestBody"], file)
            out["body"] = self.content(body, where)
            if body.get("required"):
                out["bodyRequired"] = True
        out["responses"] = {
            status: self.content(*self.follow(response, file))
            for status, response in sorted(operation["responses"].items())
        }
        return out

    def read(self):
        for file in sorted(self.folder.glob("*.yaml")):
            spec = self.load(file)
            base = spec["servers"][0]["variables"]["basePath"]["default"]
            for path, methods in spec["paths"].items():
                for method in METHODS:
                    if method in methods:
                        # A space at its end lets the files describe one path twice.
                        key = f"{method.upper()} {base}{path.rstrip()}"
                        self.add(key, self.operation(methods[method], file))
        return self

    def add(self, key, operation):
        """Keeps an operation. Of two with one path, bodies may be as either says."""
        if other := self.operations.get(key):
            operation = other | {"responses": operation["responses"] | other["responses"]} | (
                {"body": {"anyOf": [other["body"], operation["body"]]}} if "body" in operation else {}
            )
        self.operations[key] = operation


def lines(things):
    """A JSON object with one line for each of its keys, sorted: fit for diffs."""
    rows = [f"{json.dumps(key)}:{json.dumps(things[key], separators=(',', ':'))}" for key in sorted(things)]
    return "{\n" + ",\n".join(rows) + "\n}"


spec, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
for name in APIS:
    api = Api(spec / "data/api" / name).read()
    text = f'{{"operations":{lines(api.operations)},"definitions":{lines(api.definitions)}}}\n'
    (out / f"{name}.json").write_text(text)
    print(f"{name}: {len(api.operations)} operations, {len(api.definitions)} definitions, {len(text)} bytes")
