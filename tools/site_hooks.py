"""What the documentation's site adds to docs/ (mkdocs.yml): the README as its first page, and files of the source tree that pages link to.

Such a link would lead out of the site; the file is copied under source/, and the link leads there.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\[[^\]]*\]\()([^)#\s]+)((?:#[^)]*)?\))")
PAGES = {"README.md": "index.md"}  # of the source tree, as pages of the site


def outside(target, folder):
    """The path in the source tree that a page of docs/`folder` links to; None where that is a page of docs/ or another site."""
    if "://" in target:
        return None
    path = posixpath.normpath(posixpath.join("docs", folder, target))
    return None if path.startswith("docs/") else path


def linked(text, folder):
    return {path for _, target, _ in LINK.findall(text) if (path := outside(target, folder)) is not None and (ROOT / path).is_file()}


def source_uri(path):
    """Where it is in the site; pages of the source tree as text."""
    return PAGES.get(path) or f"source/{path}" + (".txt" if path.endswith(".md") else "")


def first_page():
    """The README, as if it stood in docs/."""

    def rewrite(match):
        target = match[2]
        if "://" not in target:
            target = target.removeprefix("docs/") if target.startswith("docs/") else "../" + target
        return match[1] + target + match[3]

    return LINK.sub(rewrite, (ROOT / "README.md").read_text())


def on_files(files, config):
    files.append(File.generated(config, "index.md", content=first_page()))
    wanted = set()
    for file in list(files.documentation_pages()):
        wanted |= linked(file.content_string, posixpath.dirname(file.src_uri))
    for path in sorted(wanted - set(PAGES)):
        files.append(File.generated(config, source_uri(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    folder = posixpath.dirname(page.file.src_uri)

    def rewrite(match):
        path = outside(match[2], folder)
        if path is None or not (ROOT / path).exists():
            return match[0]
        if (ROOT / path).is_dir():  # a folder of the tree has no page
            return match[0][1 : match[0].index("](")]
        return match[1] + posixpath.relpath(source_uri(path), folder or ".") + match[3]

    return LINK.sub(rewrite, markdown)
