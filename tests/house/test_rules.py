"""The house rules that a machine can see."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "camelid"
SOURCES = sorted(PACKAGE.rglob("*.py"))
WEB_FILES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".css", ".html", ".js"))
ROOMS = sorted(path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
TEXT_SUFFIXES = {
    ".cfg",
    ".css",
    ".html",
    ".js",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".svg",
    ".toml",
    ".txt",
    ".yml",
    "",
}

MAX_LINES = 400
MAX_MEDIAN_LINES = 160
FORBIDDEN_MODULES = {"common", "helper", "helpers", "misc", "util", "utils"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def exported(module: ast.Module) -> list[str] | None:
    """The module's `__all__`, or None without one."""
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = node.value  # type: ignore[attr-defined]
            return list(ast.literal_eval(value))
    return None


def defined(module: ast.Module) -> Iterator[str]:
    """Names that the top level binds."""
    for node in ast.walk(ast.Module([item for item in module.body if not _opens_scope(item)], [])):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def _opens_scope(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def reading_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def text_files() -> Iterator[Path]:
    tops = [path for path in ROOT.iterdir() if path.is_file()]
    below = [
        path
        for folder in (".ci", "src", "tests", "docs", "scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    yield from (path for path in tops + below if path.suffix in TEXT_SUFFIXES)


def test_no_source_file_is_long() -> None:
    files = [*SOURCES, *WEB_FILES]
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    assert statistics.median(lengths.values()) <= MAX_MEDIAN_LINES


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_a_room_says_what_it_is_and_lists_what_it_exports(path: Path) -> None:
    module = parsed(path)
    docstring = ast.get_docstring(module) or ""
    assert all(f"{word}: " in docstring for word in ("In", "Out", "Must not know"))
    names = exported(module)
    assert names is not None
    assert names == sorted(names, key=reading_order)
    assert set(names) <= set(defined(module))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_exports_what_it_defines_and_explains_it(path: Path) -> None:
    module = parsed(path)
    assert ast.get_docstring(module), "no module docstring"
    names = exported(module)
    if names is not None:
        assert set(names) <= set(defined(module))
    silent = [
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == [], "public names without a docstring"


@pytest.mark.parametrize("path", WEB_FILES, ids=name_of)
def test_a_web_file_says_what_it_is_and_takes_nothing_from_elsewhere(path: Path) -> None:
    """A comment opens it; what it loads lies beside it; and no text of it becomes HTML or code."""
    text = path.read_text(encoding="utf-8")
    opening = {".css": r"/\* .+\*/\n", ".html": r"<!doctype html>\n<!-- .+ -->\n", ".js": r"// .+\n"}
    assert re.match(opening[path.suffix], text)
    loads = re.findall(r"(?:\bfrom |\bimport\(?|url\(|(?:src|href)=)\s*[\"']?([^\"')\s>;]+)", text)
    elsewhere = [place for place in loads if re.match(r"[\"']?(\w+:)?//", place)]
    assert elsewhere == []
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    longest = 240 if path.suffix == ".html" else 120  # icons are drawn by one attribute each
    assert [line for line in text.splitlines() if len(line) > longest] == []


def test_names_of_modules_say_something() -> None:
    stems = {
        part for path in [*SOURCES, *WEB_FILES] for part in path.relative_to(PACKAGE).with_suffix("").parts
    }
    assert stems & FORBIDDEN_MODULES == set()


def test_nothing_unpickles() -> None:
    calls = [
        (name_of(path), node.lineno, ast.unparse(node.func), ast.unparse(node))
        for path in [*SOURCES, *ROOT.glob("scripts/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
    ]
    unsafe = [
        (where, line)
        for where, line, function, text in calls
        if re.fullmatch(r"(pickle|dill|cloudpickle|joblib)\.loads?", function)
        or (function == "torch.load" and "weights_only=True" not in text)
        or "allow_pickle=True" in text
    ]
    assert unsafe == []


def test_nothing_is_put_off() -> None:
    """Neither work, nor tests."""
    marks = re.compile("TO" + "DO|FIX" + "ME|XX" + r"X|pytest\.(mark\.)?(skip|xfail)|mark\.skipif")
    found = [
        (name_of(path), number, line.strip())
        for path in text_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if marks.search(line)
    ]
    assert found == []


def test_nothing_points_at_one_machine_or_one_registry() -> None:
    places = re.compile(
        r"(?<![\w.$}])/(home|root|Users|work)/\w"
        r"|\b(pypi|pythonhosted|npmjs)\.(org|com)\b|\bregistry\.npmjs\b|\b(deb|ftp|snapshot)\.debian\.org\b"
    )
    found = [
        (name_of(path), match.group())
        for path in text_files()
        for match in places.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_readme_maps_every_source_file() -> None:
    """The section "Map" names each file below src/camelid, relative to it, in backquotes; and no other."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    heading = re.search(r"^##+ .*\bmap\b.*$", readme, re.MULTILINE | re.IGNORECASE)
    assert heading, "no section called map"
    listed = set(re.findall(r"`([\w/]+\.py)`", readme[heading.end() :]))
    files = {path.relative_to(PACKAGE).as_posix() for path in SOURCES if path.name != "__init__.py"}
    assert files - listed == set(), "not on the map"
    assert listed - files == set(), "on the map only"


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
