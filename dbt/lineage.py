"""The lineage as a mermaid picture, from dbt's manifest: `python dbt/lineage.py` writes it into the READMEs.

It is put between the lines `<!-- lineage -->` and `<!-- /lineage -->`. The three base models of a source are one box.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

DBT_PROJECT = Path(__file__).parent
READMES = (DBT_PROJECT / "README.md", DBT_PROJECT.parent / "README.md")
BLOCK = re.compile(r"(<!-- lineage -->\n).*?(<!-- /lineage -->)", re.DOTALL)
LAYERS = ("landing", "base", "staging", "marts", "exports", "read by")


def picture(manifest: dict[str, Any]) -> str:
    """The mermaid block: a box a model, source and exposure, grouped by layer, in a fixed order."""
    nodes = [
        *(node for node in manifest["nodes"].values() if node["resource_type"] == "model"),
        *manifest["sources"].values(),
        *manifest["exposures"].values(),
    ]
    names = {node["unique_id"]: box(node) for node in nodes}
    layers: dict[str, set[str]] = {name: set() for name in LAYERS}
    arrows = set()
    for node in nodes:
        layers[layer(node)].add(names[node["unique_id"]])
        for parent in node.get("depends_on", {}).get("nodes", []):
            arrows.add((names[parent], names[node["unique_id"]]))
    lines = ["```mermaid", "flowchart LR"]
    for name, boxes in layers.items():
        lines.append(f'    subgraph {name.replace(" ", "_")}["{name}"]')
        lines += [f"        {item.replace('.', '_')}[{item}]" for item in sorted(boxes)]
        lines.append("    end")
    lines += [f"    {a.replace('.', '_')} --> {b.replace('.', '_')}" for a, b in sorted(direct(arrows))]
    return "\n".join([*lines, "```"])


def direct(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows without those inside one box, and without short cuts past a box between."""
    outward = {(a, b) for a, b in arrows if a != b}
    around = {(a, c) for a, b in outward for other, c in outward if b == other}
    return outward - around


def box(node: dict[str, Any]) -> str:
    """The name of the box that a node is in."""
    if node["resource_type"] == "source":
        return f"{node['source_name']}.{node['name']}"
    return re.sub(r"^(base_.+)_(manifests|batches)$", r"\1", str(node["name"]))


def layer(node: dict[str, Any]) -> str:
    """A model's layer is its folder."""
    return {"source": "landing", "exposure": "read by"}.get(node["resource_type"], node["fqn"][1])


def drawn(text: str, manifest: dict[str, Any]) -> str:
    """The text with the picture in its place; as it was if it has no place for one."""
    return BLOCK.sub(lambda match: f"{match[1]}{picture(manifest)}\n{match[2]}", text)


def main() -> None:
    """Draws the picture into every README whose picture is another, from the manifest that `dbt parse` has written."""
    target = Path(os.environ.get("DBT_TARGET_PATH", DBT_PROJECT / "target"))
    try:
        manifest = json.loads((target / "manifest.json").read_text())
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: not there; run `dbt parse` in {DBT_PROJECT} first")
    for readme in READMES:
        text = readme.read_text() if readme.exists() else ""
        if (new := drawn(text, manifest)) != text:
            readme.write_text(new)


if __name__ == "__main__":
    main()
