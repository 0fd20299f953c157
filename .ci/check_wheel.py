"""Check that the distributions hold every artifact and work outside the repository.

Usage: ``python .ci/check_wheel.py dist``, after ``python -m build``.
"""

import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PRETRAINED = REPOSITORY / "pretrained"
PROBE = """
import json
import learned_opt_rl
from learned_opt_rl import artifacts

print(json.dumps([learned_opt_rl.__file__, sorted(artifacts.cards())]))
"""


def artifact_files() -> dict[str, bytes]:
    """Every file under ``pretrained/``, keyed by its path from the repository."""
    files = sorted(path for path in PRETRAINED.rglob("*") if path.is_file())
    return {str(f.relative_to(REPOSITORY)): f.read_bytes() for f in files}


def only_match(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    """The one distribution in ``folder`` with this pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"expected one {pattern} in {folder}, found {len(found)}")
    return found[0]


def _in_wheel(name: str) -> bool:
    """Campaigns and their pictures stay in the repository."""
    return "campaign" not in pathlib.PurePath(name).parts and not name.endswith(".png")


def check_wheel(wheel: pathlib.Path, files: dict[str, bytes]) -> None:
    """Compare the wheel's artifacts with the repository's, byte for byte."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        if "learned_opt_rl/py.typed" not in held:
            sys.exit(f"{wheel.name} lacks learned_opt_rl/py.typed")
        files = {name: data for name, data in files.items() if _in_wheel(name)}
        for name, data in files.items():
            inside = f"learned_opt_rl/{name}"
            if inside not in held or archive.read(inside) != data:
                sys.exit(f"{wheel.name}: {inside} is absent or differs")
        extra = {name for name in held if name.startswith("learned_opt_rl/pretrained/")}
        extra -= {f"learned_opt_rl/{name}" for name in files}
        if extra:
            sys.exit(f"{wheel.name} holds artifact files of no source: {sorted(extra)}")


def check_sdist(sdist: pathlib.Path, files: dict[str, bytes]) -> None:
    """Check that the source distribution can build the same wheel."""
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    missing = sorted({*files, "LICENSE", "NOTICE", "learned_opt_rl/py.typed"} - held)
    if missing:
        sys.exit(f"{sdist.name} lacks {missing}")


def check_install(wheel: pathlib.Path, expected: list[str]) -> None:
    """Install the wheel in a fresh environment and list the artifacts from there."""
    # Neither the checkout nor the caller's environment may stand in for the wheel.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = pathlib.Path(folder) / "bin"
        python = str(binaries / "python")

        def output(*command: str) -> str:
            return subprocess.run(
                command, cwd=folder, env=environment, check=True, capture_output=True
            ).stdout.decode()

        output(python, "-m", "pip", "install", "--quiet", str(wheel))
        location, names = json.loads(output(python, "-c", PROBE))
        if not pathlib.Path(location).is_relative_to(pathlib.Path(folder).resolve()):
            sys.exit(f"the installed package was not the one imported: {location}")
        if names != expected:
            sys.exit(f"the wheel lists {names}, the repository holds {expected}")
        listing = output(str(binaries / "learned-opt-rl"), "list")
        absent = [name for name in expected if name not in listing]
        if absent:
            sys.exit(f"`learned-opt-rl list` does not show {absent}")


def main() -> None:
    """Run the checks on the distributions in the folder given."""
    folder = pathlib.Path(sys.argv[1]).resolve()
    wheel = only_match(folder, "*.whl")
    files = artifact_files()
    cards = sorted(PRETRAINED.rglob("card.json"))
    expected = sorted(str(c.parent.relative_to(PRETRAINED)) for c in cards)
    for card in cards:
        weights = json.loads(card.read_text("utf-8"))["weights"]
        # A card without an address has its weights in the file it names, beside it.
        if "url" not in weights and not (card.parent / weights["file"]).is_file():
            sys.exit(f"{card}: {weights['file']} is not beside it")
    check_wheel(wheel, files)
    check_sdist(only_match(folder, "*.tar.gz"), files)
    check_install(wheel, expected)
    print(f"{wheel.name}: {len(expected)} artifacts, installed and listed")


if __name__ == "__main__":
    main()
