"""Every link of the rendered pages leads somewhere, and every picture has a text. Files that are linked come along."""

import os
import posixpath
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self, content):
        super().__init__()
        self.ids, self.targets, self.mute = set(), [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)
        if tag == "img" and not dict(attrs).get("alt"):
            self.mute.append(dict(attrs).get("src"))


def complete(folder, find):
    """Copy the files that pages point to, and list the links that lead nowhere and pictures without a text.

    Parameters
    ----------
    folder : Path
        The rendered pages.
    find : callable
        ``find(path)`` gives the project's file for a path relative to the pages' root, or None.

    Returns
    -------
    list of str
        One phrase for each broken link or picture without alternative text.
    """
    pages = {
        file.relative_to(folder).as_posix(): _Page(file.read_text(encoding="utf-8"))
        for file in sorted(folder.rglob("*.html"))
    }
    broken = []
    for name, page in pages.items():
        broken += [f"{name}: the picture {picture} has no alternative text" for picture in page.mute]
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            path = path if parts.path else name
            anchor = unquote(parts.fragment)
            found = path in pages or (folder / path).is_file() or _fetch(path, folder, find)
            if not found or (anchor and path in pages and anchor not in pages[path].ids):
                broken.append(f"{name}: {target} leads nowhere")
    return broken


def _fetch(path, folder, find):
    source = None if path.startswith((os.pardir, "/")) else find(path)
    if source is None:
        return False
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / path)
    return True
