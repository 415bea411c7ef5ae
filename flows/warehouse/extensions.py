"""DuckDB's extensions: from PyPI packages where those are installed, else the way DuckDB installs them itself."""

import importlib.util
from pathlib import Path

import duckdb


def load(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Loads extensions such as `httpfs` into the connection's database.

    The packages `duckdb-extension-<name>` (`pip install '.[scale]'`) hold an extension for one version of DuckDB and
    need no network. Raises duckdb.Error, which names the extension, if there is neither a package nor a network.
    """
    for name in names:
        file = packaged(name)
        if file:
            connection.execute(f"load '{file}'")
        else:
            connection.execute(f"install {name}")
            connection.execute(f"load {name}")


def packaged(name: str) -> Path | None:
    """The file of an extension that is installed as a package for this version of DuckDB."""
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    for folder in (package and package.submodule_search_locations) or []:
        file = Path(folder, "extensions", f"v{duckdb.__version__}", f"{name}.duckdb_extension")
        if file.exists():
            return file
    return None
