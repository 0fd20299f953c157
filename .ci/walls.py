"""An import-linter contract: private modules are imported in their own room only.

A room is a folder directly below the package. A module is private when a part of its
name begins with an underscore.
"""

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output


class PrivateWalls(Contract):
    """No room imports another room's private modules."""

    type_name = "private_walls"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find imports of private modules across rooms."""
        found = sorted(
            f"{importer} imports {imported}"
            for imported in graph.modules
            if _is_private(imported)
            for importer in graph.find_modules_that_directly_import(imported)
            if _room(importer) != _room(imported)
        )
        return ContractCheck(kept=not found, metadata={"imports": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per import."""
        for line in check.metadata["imports"]:
            output.print_error(line)


def _is_private(module: str) -> bool:
    return any(part.startswith("_") for part in module.split(".")[2:])


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])
