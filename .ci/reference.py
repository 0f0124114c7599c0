"""Write the pages of the API reference, ``reference/*.qmd``, from the public names' docstrings. Needs griffelib.

python .ci/reference.py

A page for each package, a section for each name of its public page (``__init__.pyi``), in that order. Docstrings are
read from the source; nothing is imported.
"""

import ast
import logging
import re
import sys
import textwrap
from itertools import groupby
from pathlib import Path

import griffe
from griffe import DocstringSectionKind as Kind

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gzlib", "data", "sky", "models", "training", "fitting", "study", "book")
MADE = "<!-- Written by `make reference` from the docstrings in gzlib; do not edit. -->"
WIDTH = 84  # of a line of code that a page shows whole
ROLE = re.compile(r":(?:py:)?(?:func|class|meth|mod|attr|data):`~?([\w.]+)`")


class Reference:
    """The public names, where each is documented, and the pages about them."""

    def __init__(self, root: Path = ROOT):
        logging.getLogger("griffe").setLevel(logging.ERROR)  # the tests read its warnings
        self.root = root
        self.package = griffe.load("gzlib", search_paths=[str(root)], docstring_parser="numpy", allow_inspection=False)
        self.names = {package: self._names(package) for package in PACKAGES}
        self.page_of: dict[str, tuple[str, str]] = {}  # path of an object -> page, name
        for package in reversed(PACKAGES):  # what stands on two pages is documented on that of its own package
            for name, (path, _) in self.names[package].items():
                if package != "gzlib" or path not in self.page_of:
                    self.page_of[path] = package, name

    def _names(self, package: str) -> dict[str, tuple[str, str]]:
        """Name -> path of the object and what the public page says of it; modules are left out."""
        inside = "gzlib" if package == "gzlib" else f"gzlib.{package}"
        file = self.root / inside.replace(".", "/") / "__init__.pyi"
        text = file.read_text(encoding="utf-8")
        lines, found = text.split("\n"), {}
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                said = lines[node.lineno - 1].partition("  # ")[2]
                found[node.names[0].name] = self._path(f"{inside}.{node.module}", node.names[0].name), said
        return found

    def _path(self, module: str, name: str) -> str:
        """Dotted path of the object, through public pages to where it is defined."""
        file = self.root / module.replace(".", "/") / "__init__.pyi"
        if not file.is_file():
            return f"{module}.{name}"
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.names[0].name == name:
                return self._path(f"{module}.{node.module}", name)
        raise LookupError(f"{file} has no {name}")

    def find(self, path: str):
        """The object of a path, an alias followed."""
        found = self.package[path.removeprefix("gzlib.")]
        return found.final_target if found.is_alias else found

    def pages(self) -> dict[str, str]:
        """File name -> content."""
        return {f"{package}.qmd": self._page(package) for package in PACKAGES}

    def _page(self, package: str) -> str:
        title = "gzlib" if package == "gzlib" else f"gzlib.{package}"
        module = self.package if package == "gzlib" else self.package[package]
        about = module.docstring.value.split("\n\n")[0] if module.docstring else ""
        parts = [f"# {title}", MADE, self.prose(about), self._table(package)]
        shown = []
        for name, (path, said) in self.names[package].items():
            if self.page_of[path][0] == package:
                shown.append(self.find(path))
                parts.append(self._object(package, name, shown[-1], said))
        parts.append(self._types(shown))
        text = "\n\n".join(part for part in parts if part) + "\n"
        # Shortcodes that a docstring speaks of are shown, not carried out.
        return text.replace("{{<", "{{{<").replace(">}}", ">}}}")

    def _types(self, shown: list) -> str:
        """What the names of types stand for that the signatures of some objects use, those in other ones included."""
        found: dict[str, str] = {}
        whole = [
            *shown,
            *(member for each in shown if each.is_class for member in each.members.values() if is_shown(member)),
        ]
        todo = [one.annotation for each in whole for one in getattr(each, "parameters", ())]
        todo += [each.returns for each in whole if each.is_function]
        while todo:
            annotation = todo.pop()
            for part in annotation.iterate(flat=True) if isinstance(annotation, griffe.Expr) else ():
                path = part.canonical_path if isinstance(part, griffe.ExprName) else ""
                if path.startswith("gzlib.") and (one := self.find(path)).is_attribute and one.name not in found:
                    found[one.name] = str(one.value)
                    todo.append(one.value)
        lines = [f"- `{name}`: `{value}`" for name, value in sorted(found.items())]
        return "\n\n".join(["## Names of types {.unlisted}", "\n".join(lines)]) if lines else ""

    def _table(self, package: str) -> str:
        rows = []
        for name, (path, said) in self.names[package].items():
            page, own = self.page_of[path]
            rows.append(
                f"| [`{name}`]({'' if page == package else f'{page}.qmd'}#{anchor(page, own)}) | {escaped(said)} |"
            )
        return "\n".join(["| name | what |", "|:---|:------|", *rows])

    def _object(self, package: str, name: str, found, said: str) -> str:
        parts = [f"## {name} {{#{anchor(package, name)}}}"]
        if found.is_function or found.is_class:
            parts.append(f"```python\n{signature(name, found)}\n```")
        elif found.is_attribute and found.value is not None:
            value = str(found.value)
            parts.append(f"```python\n{assignment(name, value) if len(value) < 400 else f'{name} = ...'}\n```")
        parts.append(self.docstring(found) or f"{escaped(said)[:1].upper()}{escaped(said)[1:]}.")
        if found.is_class:
            parts += [self._member(member) for member in found.members.values() if is_shown(member)]
        return "\n\n".join(parts)

    def _member(self, member) -> str:
        typed = f": {member.annotation}" if getattr(member, "annotation", None) is not None else ""
        head = signature(member.name, member) if member.is_function else f"{member.name}{typed}"
        title = f"### {member.parent.name}.{member.name} {{.unlisted}}"
        return "\n\n".join([title, f"```python\n{head}\n```", self.docstring(member)])

    def docstring(self, found) -> str:
        """A docstring in Markdown, section by section."""
        if not found.docstring:
            return ""
        parts = []
        for section in found.docstring.parsed:
            match section.kind:
                case Kind.text:
                    parts += [self._block(block) for block in re.split(r"\n\s*\n", section.value)]
                case Kind.examples:
                    parts += [
                        f"```python\n{text}\n```" if kind is Kind.examples else self.prose(text)
                        for kind, text in section.value
                    ]
                case Kind.admonition:
                    parts += [f"**{section.title}**", self.prose(section.value.contents)]
                case Kind.returns | Kind.yields if is_sentence(section.value):
                    first = f"{section.value[0].name}: " if section.value[0].name else ""
                    said = first + " ".join(str(item.annotation) for item in section.value)
                    parts += [f"**{section.kind.value.capitalize()}**", self.prose(said)]
                case _:
                    title = section.title or section.kind.value.capitalize()
                    groups = together(section.value, found.docstring.value)
                    parts += [f"**{title}**", "\n\n".join(self._item(items, found) for items in groups)]
        return "\n\n".join(parts)

    def _block(self, text: str) -> str:
        """A paragraph of a docstring; an example, and what is indented, as code."""
        lines = text.split("\n")
        if lines[0].startswith(">>> ") or all(line.startswith("    ") for line in lines):
            return f"```python\n{textwrap.dedent(text)}\n```"
        return self.prose(text)

    def _item(self, items, found) -> str:
        """One parameter, result or error of an object, or several that are told in one, as a definition."""
        kinds = dict.fromkeys(self._kind(item, found) for item in items)
        kind = next(iter(kinds)) if len(kinds) == 1 else ""  # of several types, which stand in the signature, none
        names = ", ".join(f"**`{item.name}`**" for item in items if getattr(item, "name", ""))
        parts = (names, f"_{straight(self.prose(kind))}_" if kind else "")
        head = " : ".join(part for part in parts if part)
        text = self.prose((items[0].description or "").strip())
        return f"{head}\n:   {indented(text)}" if text else head

    def _kind(self, item, found) -> str:
        """What a parameter, result or error is, in the docstring's words where it has them."""
        name, annotation = getattr(item, "name", "") or "", item.annotation
        own = {one.name: one.annotation for one in getattr(found, "parameters", ())}
        if any(annotation is one for one in own.values()):  # of several names griffe takes the first one's
            annotation = own.get(name)
        # As it is written, where it is: griffe makes tuples of choices and of what is optional.
        written = re.search(rf"^(?:[\w*]+, )*\**{re.escape(name)}(?:, [\w*]+)* : (.+)$", found.docstring.value, re.M)
        kind = "" if annotation is None or str(annotation) == "Any" else str(annotation)
        return written[1].strip() if name and written else kind

    def prose(self, text: str) -> str:
        """Docstring text as Markdown: roles become links, everything else outside of code stays letter by letter."""
        parts, at = [], 0
        for found in re.finditer(rf"{ROLE.pattern}|``(.+?)``|`([^`\n]+)`", text, re.DOTALL):
            parts.append(escaped(text[at : found.start()]))
            parts.append(self._link(found[1]) if found[1] else f"`{' '.join((found[2] or found[3]).split())}`")
            at = found.end()
        return "".join([*parts, escaped(text[at:])])

    def _link(self, path: str) -> str:
        known = {self.find(p).path: place for p, place in self.page_of.items()} if "." in path else {}
        public = {
            f"gzlib.{place[0]}.{place[1]}".replace("gzlib.gzlib", "gzlib"): place for place in self.page_of.values()
        }
        place = known.get(path) or public.get(path)
        short = path.rsplit(".", 1)[-1]
        return f"[`{short}`]({place[0]}.qmd#{anchor(*place)})" if place else f"`{path}`"


def anchor(package: str, name: str) -> str:
    return f"api-{package}-{name}".replace("_", "-")


def together(items: list, docstring: str) -> list[list]:
    """The items of a section, those in one list that share a line of the docstring, such as ``low, high : float``."""
    lines = re.findall(r"^((?:[\w*]+, )+[\w*]+)(?: : .+)?$", docstring, re.M)
    line_of = {name.strip("*"): place for place, line in enumerate(lines) for name in line.split(", ")}
    places = [line_of.get((getattr(item, "name", "") or "").strip("*"), -1 - at) for at, item in enumerate(items)]
    return [
        [item for _, item in group] for _, group in groupby(zip(places, items, strict=True), key=lambda pair: pair[0])
    ]


def is_sentence(items: list) -> bool:
    """Whether what is returned is told in a sentence, of which griffe makes an item a line."""
    rest = [item for item in items[1:] if item.name or " : " in str(item.annotation)]
    return not rest and not any(item.description for item in items)


def assignment(name: str, value: str) -> str:
    """A constant as code, with a line for each part where one line is too long."""
    line, node = f"{name} = {value}", ast.parse(value, mode="eval").body
    if len(line) <= WIDTH:
        return line
    match node:
        case ast.Call():
            parts = [*map(ast.unparse, node.args), *(f"{one.arg}={ast.unparse(one.value)}" for one in node.keywords)]
            ends = f"{ast.unparse(node.func)}(", ")"
        case ast.Dict():
            parts = [f"{ast.unparse(k)}: {ast.unparse(v)}" for k, v in zip(node.keys, node.values, strict=True) if k]
            ends = "{", "}"
        case ast.Tuple() | ast.List():
            parts = [ast.unparse(one) for one in node.elts]
            ends = ("(", ")") if isinstance(node, ast.Tuple) else ("[", "]")
        case _:
            return line
    return f"{name} = {ends[0]}\n" + "".join(f"    {part},\n" for part in parts) + ends[1]


def indented(text: str) -> str:
    return re.sub(r"\n(?=[^\n])", "\n    ", text)


def escaped(text: str) -> str:
    """Text in which no letter is Markdown's."""
    return re.sub(r"([\\`*_<>\[\]$@^~|#{}])", r"\\\1", text)


def straight(text: str) -> str:
    """Markdown whose double quotes stay as they are typed, as those of a type have to."""
    return re.sub(r'(`[^`]*`)|"', lambda found: found[1] or r"\"", text)


def is_shown(member) -> bool:
    is_own = not member.is_alias and not member.name.startswith("_") and member.docstring is not None
    return is_own and (member.is_function or "property" in member.labels)


def signature(name: str, found) -> str:
    """How an object is called, on one line or with a line for each argument."""
    shown, star = [], False
    for one in found.parameters:
        if one.name in ("self", "cls"):
            continue
        kind = one.kind.value if one.kind else ""
        if kind == "keyword-only" and not star:
            shown.append("*")
            star = True
        star = star or kind == "variadic positional"
        mark = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        typed = f": {one.annotation}" if one.annotation is not None else ""
        is_plain = one.default is None or bool(mark)
        value = "..." if str(one.default).startswith("_") else one.default  # a private name says nothing to a caller
        default = "" if is_plain else f"{' = ' if typed else '='}{value}"
        shown.append(f"{mark}{one.name}{typed}{default}")
    returns = f" -> {found.returns}" if found.is_function and found.returns is not None else ""
    line = f"{name}({', '.join(shown)}){returns}"
    return line if len(line) <= WIDTH else f"{name}(\n" + "".join(f"    {part},\n" for part in shown) + f"){returns}"


def main():
    folder = ROOT / "reference"
    folder.mkdir(exist_ok=True)
    pages = Reference().pages()
    for name, content in pages.items():
        (folder / name).write_text(content, encoding="utf-8")
    for file in folder.glob("*.qmd"):
        if file.name not in pages:
            file.unlink()
    print(f"{len(pages)} pages in {folder.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
