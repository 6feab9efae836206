"""python -m fovea.report FILE.json [--output PAGE.html]"""

import argparse
import pathlib
import sys

from .page import ReportError, make_page, read_replay


def main():
    parser = argparse.ArgumentParser(prog="python -m fovea.report", description="Makes a page with plots from what `fovea replay --json FILE` writes.")
    parser.add_argument("file", type=pathlib.Path, help="the JSON file")
    parser.add_argument("--output", "-o", type=pathlib.Path, help="the page; default: FILE with .html at its end")
    arguments = parser.parse_args()
    output = arguments.output or arguments.file.with_suffix(".html")
    try:
        page = make_page(read_replay(arguments.file))
        output.write_text(page, encoding="utf-8")
    except (ReportError, OSError) as error:
        print(f"fovea.report: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"fovea.report: the Python module {error.name} is missing; pip install matplotlib, or run .venv/bin/python, which make deps made", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"fovea.report: {arguments.file}: key {error} is missing; was it written by another version?", file=sys.stderr)
        return 2
    print(f"{output} ({len(page.encode()) / 1024:.0f} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
