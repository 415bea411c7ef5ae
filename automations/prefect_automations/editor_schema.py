"""The JSON schema of a file, for editors: Prefect's models, with our names and keys."""

from typing import Any

from .environment import VARIABLE
from .files import NAMED, OUR_KEYS
from .prefect_server import AutomationCreate

COMMENT = "# yaml-language-server: $schema="
FILE = "automation.schema.json"

Schema = dict[str, Any]


def editor_schema() -> Schema:
    """What a file can have, key by key; a key that is not there is an error, as in `validate`."""
    made: Schema = strict(AutomationCreate.model_json_schema())
    for definition in [made, *made.get("$defs", {}).values()]:
        add_names(definition)
    made["title"] = "Prefect automation"
    made["properties"] |= {
        "former_names": {"type": "array", "items": {"type": "string"}, "description": OUR_KEYS["former_names"]},
        "adopts": {"type": "string", "format": "uuid", "description": OUR_KEYS["adopts"]},
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made}


def strict(value: Any) -> Any:
    """Without keys that are not listed, with seconds for durations, and with `${NAME}` for any plain value."""
    if isinstance(value, list):
        return [strict(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: strict(each) for key, each in value.items()}
    if made.get("format") == "duration":
        return {"type": ["number", "string"], **{k: v for k, v in made.items() if k in ("title", "description")}}
    if made.get("type") in ("integer", "number", "boolean"):
        extra = {key: made.pop(key) for key in ("title", "description", "default") if key in made}
        return {"anyOf": [made, {"type": "string", "pattern": f"^{VARIABLE.pattern[7:]}$"}], **extra}
    if made.get("type") == "object" and "properties" in made:
        made["properties"].pop("id", None)
        made["additionalProperties"] = False
    return made


def add_names(definition: Schema) -> None:
    """A name beside each id; and what an action without an id needs is the name."""
    properties = definition.get("properties", {})
    for key, named in NAMED.items():
        if named.id_key in properties:
            pattern = r"^[^/]+/[^/]+$|\$\{" if "/" in named.form else None
            properties[key] = {"type": "string", "description": f"The name in place of {named.id_key}: {named.form}"}
            properties[key] |= {"pattern": pattern} if pattern else {}
            required = definition.get("required", [])
            definition["required"] = [each for each in required if each != named.id_key]
