import pathlib
import shutil
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import flatten_names
from learned_opt_rl.errors import (
    ArtifactError,
    CardError,
    FetchError,
    UnknownArtifactError,
    WeightsError,
)
from tests.artifact_files import (
    card_data,
    install_plugin,
    npy_bytes,
    remote_card_data,
    write_artifact,
    write_card,
)

ARTIFACTS = "[learned_opt_rl.artifacts]\n"
RULES = "[learned_opt_rl.rules]\n"


@pytest.fixture
def bundled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A bundled folder with one artifact, ``tiny``."""
    root = tmp_path / "pretrained"
    write_artifact(root / "tiny", "tiny")
    monkeypatch.setattr(registry, "bundled_root", lambda: root)
    return root


@pytest.fixture
def site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder on ``sys.path`` to install plugins into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


class TestBundled:
    def test_names_are_those_of_the_folders(self, repository: pathlib.Path) -> None:
        root = repository / "pretrained"
        for path in root.rglob("card.json"):
            folder = path.parent.relative_to(root).as_posix()
            assert artifacts.Card.load(path).name == folder

    def test_every_bundled_card_is_usable(self) -> None:
        found = registry.scan()
        bundled = {n: e for n, e in found.entries.items() if e.origin == "bundled"}
        assert len(list(registry.bundled_root().rglob("card.json"))) == len(bundled)
        assert "goldie2024/minatar" in bundled

    def test_every_bundled_artifact_with_weights_loads(self) -> None:
        for entry in registry.scan().entries.values():
            if entry.origin == "bundled" and not entry.card.is_remote:
                assert registry.load_entry(entry).card is entry.card

    def test_the_seven_released_optimizers_are_remote(self) -> None:
        released = {
            name: card
            for name, card in artifacts.cards().items()
            if name.startswith("goldie2024/")
        }
        assert len(released) == 7
        assert all(card.is_remote for card in released.values())
        counts = {n: card.weights.parameters for n, card in released.items()}
        assert counts.pop("goldie2024/minatar") == 3571
        assert set(counts.values()) == {1211}

    def test_card_and_load(self, bundled: pathlib.Path) -> None:
        artifact = artifacts.load("tiny")
        assert artifact.card == artifacts.card("tiny") == artifacts.cards()["tiny"]
        assert set(artifact.weights) == {"gru", "mlp"}
        for leaf in flatten_names(artifact.weights).values():
            assert leaf.dtype == np.float32

    def test_an_installed_wheel_has_its_own_folder(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "learned_opt_rl"
        (package / "pretrained").mkdir(parents=True)
        monkeypatch.setattr(registry, "_PACKAGE", package)
        assert registry.bundled_root() == package / "pretrained"
        (package / "pretrained").rmdir()
        assert registry.bundled_root() == tmp_path / "pretrained"

    def test_a_lookup_opens_one_card(self) -> None:
        code = (
            "import sys\n"
            "from learned_opt_rl.artifacts import registry\n"
            "opened = []\n"
            "def hook(event, arguments):\n"
            "    if event == 'open':\n"
            "        opened.append(str(arguments[0]))\n"
            "sys.addaudithook(hook)\n"
            "registry.load('minatar')\n"
            "print('\\n'.join(opened))"
        )
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, check=True, capture_output=True, text=True)
        opened = [pathlib.Path(line) for line in done.stdout.splitlines()]
        ours = [path for path in opened if path.suffix not in (".py", ".pyc")]
        root = registry.bundled_root() / "minatar"
        assert ours == [root / "card.json", root / "weights.safetensors"]

    def test_a_card_of_another_name_than_its_folder(
        self, bundled: pathlib.Path
    ) -> None:
        write_artifact(bundled / "elsewhere", "named")
        assert artifacts.load("named").card.name == "named"
        with pytest.raises(UnknownArtifactError):
            artifacts.load("elsewhere")

    @pytest.mark.parametrize(
        "name", ["../secret", "/etc", "tiny/", "a/b/c", "", ".", "tiny\x00", "\x1b[2J"]
    )
    def test_a_name_is_never_another_path(
        self, bundled: pathlib.Path, name: str
    ) -> None:
        write_artifact(bundled.parent / "secret", "secret")
        with pytest.raises(UnknownArtifactError) as error:
            artifacts.load(name)
        assert str(error.value).isprintable()

    def test_another_folder_by_environment(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_artifact(tmp_path / "mine", "mine")
        monkeypatch.setenv("LEARNED_OPT_RL_PRETRAINED", str(tmp_path))
        assert registry.bundled_root() == tmp_path
        assert artifacts.load("mine").card.name == "mine"
        assert "minatar" not in artifacts.cards()

    def test_damaged_weights_are_refused(self, bundled: pathlib.Path) -> None:
        path = bundled / "tiny/weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        with pytest.raises(WeightsError, match="was changed or damaged"):
            artifacts.load("tiny")

    def test_weights_of_another_architecture_are_refused(
        self, bundled: pathlib.Path
    ) -> None:
        other = {"carry": 2, "width": 4}
        write_artifact(bundled / "tiny", "tiny", architecture=other)
        with pytest.raises(WeightsError, match="the card's architecture asks for"):
            artifacts.load("tiny")

    def test_a_broken_card_hides_no_other(self, bundled: pathlib.Path) -> None:
        write_card(bundled / "bad", card_data("bad", license="unknown"))
        with pytest.warns(UserWarning, match="bundled: 'bad' is left out.*SPDX"):
            assert set(artifacts.cards()) >= {"tiny"}
        with pytest.raises(CardError, match="license is 'unknown'"):
            artifacts.card("bad")

    def test_a_card_that_is_not_json_is_found_by_its_folder(
        self, bundled: pathlib.Path
    ) -> None:
        write_card(bundled / "ns/bad", {}).write_text("{")
        with pytest.raises(CardError, match="is not JSON"):
            artifacts.load("ns/bad")

    def test_remote_weights_need_fetching(self, bundled: pathlib.Path) -> None:
        write_card(bundled / "far/tiny", remote_card_data(b"content"))
        with pytest.raises(FetchError, match="`learned-opt-rl fetch far/tiny`"):
            artifacts.load("far/tiny")


class TestUnknown:
    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("tini", "did you mean 'tiny'? "),
            ("mintar", "did you mean 'goldie2024/minatar'? "),
            ("goldie2024/aterix", "did you mean 'goldie2024/asterix'"),
            ("zzzzzz", "no artifact is named 'zzzzzz'; `learned-opt-rl list`"),
        ],
    )
    def test_the_nearest_names_are_suggested(
        self, bundled: pathlib.Path, name: str, suggestion: str
    ) -> None:
        for known in ("goldie2024/minatar", "goldie2024/asterix"):
            write_card(bundled / known, card_data(known))
        with pytest.raises(UnknownArtifactError) as error:
            artifacts.load(name)
        assert suggestion in str(error.value)
        assert str(error.value).endswith("`learned-opt-rl list` shows all")

    def test_a_name_is_a_string(self) -> None:
        with pytest.raises(TypeError, match="name is 3; pass the artifact's name"):
            artifacts.card(3)  # type: ignore[arg-type]


class TestPlugins:
    def test_a_plugin_is_found_and_never_executed(self, site: pathlib.Path) -> None:
        code = "raise SystemExit('executed')"
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo", code)
        write_artifact(folder / "deep/er", "zoo/tiny")
        assert artifacts.cards()["zoo/tiny"].license == "MIT"
        assert artifacts.load("zoo/tiny").weights["gru"]["hn"]["bias"].shape == (2,)
        assert "zoo" not in sys.modules

    def test_parents_of_a_dotted_package_are_not_executed(
        self, site: pathlib.Path
    ) -> None:
        code = "raise SystemExit('executed')"
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo.cards", code)
        (folder / "cards").mkdir()
        (folder / "cards/__init__.py").write_text(code)
        write_artifact(folder / "cards", "zoo/tiny")
        write_card(folder / "elsewhere", card_data("zoo/hidden"))
        assert "zoo/tiny" in artifacts.cards()
        assert "zoo/hidden" not in artifacts.cards()
        assert "zoo" not in sys.modules

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ("zoo = missing_package", "no such package; reinstall or uninstall"),
            ("zoo = zoo.missing", "no such package"),
            ("zoo = zoo.missing.below", "no such package"),
            ("zoo = zoo.module", "is a module, not a package"),
            ("zoo = zoo", r"no card\.json in .*; its author"),
            ("zoo = zoo:attribute", "cannot be located .it names the attribute 'attr"),
            ("zoo = not a module", "cannot be located"),
        ],
    )
    def test_a_broken_plugin_hides_no_other(
        self, bundled: pathlib.Path, site: pathlib.Path, entry: str, message: str
    ) -> None:
        folder = install_plugin(site, "zoo", ARTIFACTS + entry)
        (folder / "module.py").write_text("")
        good = install_plugin(site, "good", f"{ARTIFACTS}good = good")
        write_artifact(good, "good/tiny")
        with pytest.warns(UserWarning, match=rf"(?s)plugin zoo: 'zoo'.*{message}"):
            assert {"tiny", "good/tiny"} <= set(artifacts.cards())
        with pytest.raises(ArtifactError, match=message):
            artifacts.load("zoo/anything")

    def test_a_broken_card_of_a_plugin_raises_when_asked_for(
        self, site: pathlib.Path
    ) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo")
        write_artifact(folder / "good", "zoo/good")
        write_card(folder / "bad", card_data("zoo/bad", schema=2))
        with pytest.warns(UserWarning, match="plugin zoo: 'zoo/bad' is left out"):
            assert "zoo/good" in artifacts.cards()
        with pytest.raises(CardError, match="schema is 2, .* update it: pip"):
            artifacts.card("zoo/bad")
        with pytest.raises(UnknownArtifactError):
            artifacts.card("zoo/ba")

    def test_asking_for_one_artifact_does_not_warn_of_another(
        self, bundled: pathlib.Path, site: pathlib.Path
    ) -> None:
        install_plugin(site, "zoo", f"{ARTIFACTS}zoo = missing_package")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert artifacts.load("tiny").card.name == "tiny"

    def test_an_entry_point_may_name_extras(self, site: pathlib.Path) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo [fast,gpu]")
        write_artifact(folder, "zoo/tiny")
        assert "zoo/tiny" in artifacts.cards()

    def test_a_package_that_two_distributions_name_counts_once(
        self, site: pathlib.Path
    ) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo")
        write_artifact(folder, "zoo/tiny")
        install_plugin(site, "zoo_renamed", f"{ARTIFACTS}zoo = zoo")
        assert "zoo/tiny" in artifacts.cards()  # warnings are errors

    @pytest.mark.parametrize("content", [b"[group]\nzoo\n", b"\xff\xfe"])
    def test_damaged_files_of_any_package_hide_no_bundled_artifact(
        self, bundled: pathlib.Path, site: pathlib.Path, content: bytes
    ) -> None:
        install_plugin(site, "zoo", "")
        (site / "zoo-1.0.dist-info/entry_points.txt").write_bytes(content)
        with pytest.warns(UserWarning, match="plugins are left out, because the entry"):
            assert "tiny" in artifacts.cards()

    def test_a_plugin_whose_folder_is_gone_hides_no_other(
        self, bundled: pathlib.Path, site: pathlib.Path
    ) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo")
        shutil.rmtree(folder)
        with pytest.warns(UserWarning, match="no such package; reinstall"):
            assert "tiny" in artifacts.cards()

    def test_a_plugin_cannot_take_a_bundled_name(
        self, bundled: pathlib.Path, site: pathlib.Path
    ) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo")
        write_artifact(folder, "tiny", title="An impostor")
        with pytest.warns(UserWarning, match="from bundled already has; rename this"):
            assert artifacts.cards()["tiny"].title == "A tiny optimizer"
        assert artifacts.load("tiny").card.title == "A tiny optimizer"

    def test_of_two_plugins_with_one_name_the_first_by_name_wins(
        self, site: pathlib.Path
    ) -> None:
        for package in ("zoo_b", "zoo_a"):
            folder = install_plugin(site, package, f"{ARTIFACTS}{package} = {package}")
            write_artifact(folder, "zoo/tiny", title=package)
        with pytest.warns(UserWarning, match="plugin zoo_b: .* from plugin zoo_a"):
            assert artifacts.cards()["zoo/tiny"].title == "zoo_a"

    def test_a_card_cannot_reach_outside_its_folder(self, site: pathlib.Path) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo")
        data = card_data("zoo/tiny")
        data["weights"]["file"] = "../../secret.safetensors"
        write_card(folder, data)
        with pytest.raises(CardError, match="in the card's own folder"):
            artifacts.load("zoo/tiny")

    def test_a_plugin_may_have_remote_weights(self, site: pathlib.Path) -> None:
        folder = install_plugin(site, "zoo", f"{ARTIFACTS}zoo = zoo")
        write_card(folder, remote_card_data(npy_bytes(np.zeros(2)), "zoo/far"))
        with pytest.raises(FetchError, match="learned-opt-rl fetch zoo/far"):
            artifacts.load("zoo/far")


class TestRules:
    def test_open_is_built_in(self) -> None:
        module = artifacts.rule_module("open")
        assert module.__name__ == "learned_opt_rl.rules.open_rl"
        assert callable(module.from_artifact)

    def test_a_plugin_cannot_replace_a_built_in_rule(self, site: pathlib.Path) -> None:
        install_plugin(site, "zoo", f"{RULES}open = zoo", "raise SystemExit")
        assert artifacts.rule_module("open").__name__ == "learned_opt_rl.rules.open_rl"

    def test_a_plugin_brings_a_rule(
        self, site: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = "def from_artifact(artifact, **options): return 'made'"
        install_plugin(site, "zoo_rule", f"{RULES}jump = zoo_rule", code)
        try:
            module = artifacts.rule_module("jump")
            assert isinstance(module, types.ModuleType)
            assert module.from_artifact(None) == "made"
        finally:
            sys.modules.pop("zoo_rule", None)

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("", r"lacks from_artifact\(artifact, \*\*options\); update"),
            ("from_artifact = 3", "lacks from_artifact"),
            ("import missing_module", r"failed \(ModuleNotFoundError: .*missing_mod"),
            ("1 / 0", r"importing 'zoo_bad' failed \(ZeroDivisionError"),
            ("raise SystemExit('no license')", r"failed \(SystemExit: no license\)"),
            ("raise BaseException('odd')", r"failed \(BaseException: odd\)"),
            ("import warnings; warnings.warn('old')", r"failed \(UserWarning: old\)"),
        ],
    )
    def test_a_broken_rule_names_its_plugin(
        self, site: pathlib.Path, code: str, message: str
    ) -> None:
        install_plugin(site, "zoo_bad", f"{RULES}jump = zoo_bad", code)
        try:
            with pytest.raises(ArtifactError, match=f"rule plugin 'jump': .*{message}"):
                artifacts.rule_module("jump")
        finally:
            sys.modules.pop("zoo_bad", None)

    def test_an_interrupt_at_import_is_an_interrupt(self, site: pathlib.Path) -> None:
        install_plugin(
            site, "zoo_slow", f"{RULES}jump = zoo_slow", "raise KeyboardInterrupt"
        )
        with pytest.raises(KeyboardInterrupt):
            artifacts.rule_module("jump")

    def test_an_unknown_algorithm_suggests_the_nearest(
        self, site: pathlib.Path
    ) -> None:
        install_plugin(site, "zoo", f"{RULES}jump = zoo")
        with pytest.raises(ArtifactError, match="'jumpp'; did you mean 'jump'?"):
            artifacts.rule_module("jumpp")
        with pytest.raises(ArtifactError, match="'zzz'; install the package"):
            artifacts.rule_module("zzz")

    def test_two_plugins_for_one_algorithm_are_ambiguous(
        self, site: pathlib.Path
    ) -> None:
        for package in ("zoo_a", "zoo_b"):
            install_plugin(site, package, f"{RULES}jump = {package}")
        with pytest.raises(ArtifactError, match="'zoo_a' and 'zoo_b'; uninstall"):
            artifacts.rule_module("jump")


def test_loading_artifacts_needs_no_jax(bundled: pathlib.Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from learned_opt_rl import artifacts\n"
        "from learned_opt_rl.artifacts import registry\n"
        f"registry.bundled_root = lambda: pathlib.Path({str(bundled)!r})\n"
        "assert artifacts.load('tiny').weights\n"
        "assert not {'jax', 'optax', 'pooch', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_variable_that_names_no_folder_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("LEARNED_OPT_RL_PRETRAINED", str(tmp_path / "missing"))
    for look in (registry.scan, lambda: registry.find("minatar")):
        with pytest.raises(ArtifactError, match="LEARNED_OPT_RL_PRETRAINED=.* is not"):
            look()
