"""The package as others get it: what its archives hold, that it works from them, what it brings along and asks for."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.offline import PACKAGES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()
PERMISSIVE = re.compile("MIT|BSD|Apache|PSF|Python Software Foundation|BSL-1.0")
OTHERWISE = {
    "brian2": "CeCILL-2.1",
    "certifi": "MPL 2.0",
    "gensim": "LGPL-2.1",
    "hypothesis": "MPL-2.0",
    "pathspec": "MPL 2.0",
    "tqdm": "MPL-2.0",
}


def python(*arguments: object, cwd: Path, **environment: str) -> str:
    """What a fresh interpreter prints."""
    found = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, what it unpacks to (``source``), and the wheel built from that."""
    place = tmp_path_factory.mktemp("dist")
    python("-m", "hatchling", "build", "-t", "sdist", "-d", place, cwd=ROOT)
    with tarfile.open(*place.glob("*.tar.gz")) as archive:
        archive.extractall(place, filter="data")
    (unpacked,) = place.glob("eqspike-*/")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", place, cwd=unpacked.rename(place / "source"))
    return place


def files(place: Path, *folders: str) -> set[str]:
    """Paths of the files of a tree, or of some of its folders, from its root."""
    found = [path for folder in folders or (".",) for path in (place / folder).rglob("*") if path.is_file()]
    return {path.relative_to(place).as_posix() for path in found if "__pycache__" not in path.parts}


def test_wheel_holds_the_packages_whole_and_nothing_else(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        info = f"eqspike-{PROJECT['version']}.dist-info"
        inside = {name for name in archive.namelist() if not name.startswith(info)}
        metadata = archive.read(f"{info}/METADATA").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert inside == files(ROOT, *PACKAGES)
    data = ("eqspike_seq/presets/mini.toml", "neuromorphic/costs/loihi.toml", "analysis/templates/report.css")
    assert {*data, *(f"{package}/py.typed" for package in PACKAGES)} <= inside
    assert "License-Expression: Apache-2.0" in metadata.splitlines()


def test_sdist_holds_what_its_tests_need_and_no_leftovers(archives: Path) -> None:
    source = archives / "source"
    folders = (*PACKAGES, "benchmarks", "docs", "examples", "results", "tests")
    assert files(source, *folders) == files(ROOT, *folders)
    rest = {path.name for path in source.iterdir()} - set(folders)
    assert rest == {
        *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "PKG-INFO", ".gitignore"),
        *("Makefile", "mkdocs.yml", "pyproject.toml", "requirements.lock", "requirements-torch.lock"),
    }


def test_installed_from_its_wheel_it_works_and_asks_nobody(archives: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    flags = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", site)
    python("-m", "pip", "install", *flags, *archives.glob("*.whl"), cwd=tmp_path)
    shown = python("-P", site / "bin/eqspike", "--version", cwd=tmp_path, PYTHONPATH=str(site))
    assert shown.strip() == f"eqspike {PROJECT['version']}"
    printed = python("-P", ROOT / "tests/offline.py", cwd=tmp_path, PYTHONPATH=str(site))
    found = json.loads(printed.splitlines()[-1])
    assert found["asked"] == []
    assert len(found["files"]) > 40 and all(Path(file).is_relative_to(site.resolve()) for file in found["files"])
    assert json.loads((tmp_path / "run/result.json").read_text())["complete"]
    written = ("run/energy.json", "report.html", "run.nir", "run.safetensors")
    assert all((tmp_path / name).stat().st_size for name in written)


def dependencies() -> dict[str, Distribution]:
    """What eqspike needs, extras included, and what that needs, by name; not the CUDA packages that torch may bring."""
    found: dict[str, Distribution] = {}
    queue = [(line, {""}) for part in (PROJECT["dependencies"], *EXTRAS.values()) for line in part]
    for line, extras in queue:  # which grows
        wanted = Requirement(line)
        name, marker = canonicalize_name(wanted.name), wanted.marker
        applies = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
        if name in found or not applies or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        queue += [(line, {"", *wanted.extras}) for line in found[name].requires or ()]
    return found


def licences(package: Distribution) -> list[str]:
    """As its metadata has them: an SPDX expression, else classifiers, else a text."""
    about = package.metadata
    classifiers = [line.split(" :: ") for line in about.get_all("Classifier", [])]
    classified = " AND ".join(kind[-1] for kind in classifiers if kind[:2] == ["License", "OSI Approved"])
    return re.split(" AND | OR ", about["License-Expression"] or classified or about["License"] or "none")


def test_licences_of_all_dependencies_are_permissive_but_for_a_named_few() -> None:
    found = dependencies()
    assert len(found) > 60
    page = (ROOT / "docs/install.md").read_text()
    for name, about in found.items():
        strict = [licence for licence in licences(about) if not PERMISSIVE.search(licence)]
        assert all(name in OTHERWISE and OTHERWISE[name] in licence for licence in strict), f"{name}: {strict}"
    assert all(re.search(rf"^\| {name} \|", page, re.MULTILINE) for name in OTHERWISE)


def test_lock_has_a_hash_for_every_archive_and_leaves_out_no_dependency() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    locked = set()
    for entry in entries:
        pin, *hashes = (line.strip(" \\") for line in entry.splitlines())
        assert hashes and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", line) for line in hashes), pin
        locked.add(pin.split("==")[0])
    assert set(dependencies()) - locked == {"torch"}
    assert re.fullmatch(r"torch==[\d.]+\n", (ROOT / "requirements-torch.lock").read_text())


def test_citation_is_of_this_version_and_names_the_two_papers() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["cff-version"], cited["title"], cited["license"]) == ("1.2.0", PROJECT["name"], PROJECT["license"])
    assert cited["version"] == PROJECT["version"] and cited["message"] and cited["authors"]
    papers = {(paper["authors"][0]["family-names"], paper["year"]): paper["title"] for paper in cited["references"]}
    assert "Equilibrium Propagation" in papers["Bal", 2023] and papers["Martin", 2021].startswith("EqSpike")


def test_change_log_has_a_section_for_this_version() -> None:
    assert re.search(rf"^## \[?{re.escape(PROJECT['version'])}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
