#!/usr/bin/env python3
"""Keeps the documents true: quoted code is the code of the examples, and links inside the repository lead somewhere.

A fenced block that follows `<!-- quote: examples/01_decode.cc readme -->` must equal the lines between `// [readme]` and `// [/readme]` of that
file (`# [readme]` in Python). `--update` rewrites the blocks.
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUOTE = re.compile(r"<!-- quote: (\S+) (\S+) -->\n```(\w*)\n(.*?)```\n", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def documents():
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md"), *(ROOT / "third_party").rglob("README.md")])


def quoted(path, marker):
    """Lines between the markers; None if either is missing."""
    text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
    match = re.search(rf"^(?://|#) \[{re.escape(marker)}\]\n(.*?)^(?://|#) \[/{re.escape(marker)}\]\n", text, re.DOTALL | re.MULTILINE)
    return match.group(1) if match else None


def check_quotes(document, text, update):
    def replace(match):
        source, marker, language, body = match.groups()
        wanted = quoted(source, marker)
        line = text.count("\n", 0, match.start()) + 1
        if wanted is None:
            found.append(f"{document}:{line}: {source} has no lines between // [{marker}] and // [/{marker}]")
            return match.group(0)
        if body != wanted and not update:
            found.append(f"{document}:{line}: differs from {source} [{marker}]; tools/check_docs.py --update copies it")
        return f"<!-- quote: {source} {marker} -->\n```{language}\n{wanted}```\n"

    found = []
    return QUOTE.sub(replace, text), found


def check_links(document, text, path):
    for number, line in enumerate(text.splitlines(), 1):
        for target in LINK.findall(line):
            if "://" not in target and not (path.parent / target).exists():
                yield f"{document}:{number}: link to {target}, which is not there"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    problems = []
    for path in documents():
        document, text = path.relative_to(ROOT).as_posix(), path.read_text()
        updated, found = check_quotes(document, text, args.update)
        problems += [*found, *check_links(document, updated, path)]
        if args.update and updated != text:
            path.write_text(updated)
    print("\n".join(problems + [f"check_docs: {len(problems)} problems in {len(documents())} documents"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
