#!/usr/bin/env python3
"""Who may include whom, and how long files and functions may be.

    tools/check_layers.py               checks the tree; exit code 1 and `file:line: rule` for every violation
    tools/check_layers.py --self-test   plants violations in a scratch tree and expects each to be found
    tools/check_layers.py --longest 10  also lists the longest files and functions

The table LAYERS is the include table of ARCHITECTURE.md. The first row whose pattern matches a file's path is the row that counts.
"""

import argparse
import fnmatch
import pathlib
import re
import sys
import tempfile

SOURCE_SUFFIXES = {".h", ".cc", ".inc", ".cuh", ".cu"}
SOURCE_FOLDERS = ["include", "portable", "variants", "src", "backends", "check", "cli", "tests", "examples", "bench", "serving", "python"]

# What an include may be. Quoted includes name a path; angle brackets a library.
STD = "std"                # the C++ standard library and freestanding C headers
DLPACK = "dlpack/dlpack.h"
FMT = "fmt/"
TBB = "tbb"
SYSTEM = "system"          # the operating system and the instruction set: <unistd.h>, <immintrin.h>
JSON = "nlohmann/"
CLI11 = "CLI/"
BENCHMARK = "benchmark/"
ZLIB = "zlib.h"
XXHASH = "xxhash.h"
TVM_FFI = "tvm/ffi/"
ANYTHING = "*"

LIBRARIES = {
    DLPACK: ("dlpack/",),
    FMT: ("fmt/",),
    TBB: ("tbb/", "oneapi/"),
    JSON: ("nlohmann/",),
    CLI11: ("CLI/",),
    BENCHMARK: ("benchmark/",),
    ZLIB: ("zlib.h",),
    XXHASH: ("xxhash.h",),
    TVM_FFI: ("tvm/ffi/",),
    "test": ("gtest/", "gmock/"),
}
SYSTEM_HEADERS = {"immintrin.h", "cpuid.h", "unistd.h", "sched.h", "pthread.h", "dlfcn.h", "fcntl.h", "x86intrin.h"}

PUBLIC = "fovea/"
# What every stage of the core may see: the door to backends, the text of specs, error texts.
CORE = [PUBLIC, "portable/", "src/backend.h", "src/describe.h", "src/support/", FMT, STD]
# (files, what they may include, why)
LAYERS = [
    ("examples/*", [PUBLIC, STD], "examples show the public API and nothing else"),
    ("tests/install/*", [PUBLIC, STD], "the install test stands for a user's project"),
    ("tests/*", [ANYTHING], ""),
    ("*_test.cc", [ANYTHING], ""),
    ("*_fixture.h", [ANYTHING], ""),  # what several tests of a folder share
    ("*_error_cases.*", [ANYTHING], ""),
    ("include/fovea/dtype.h", [], "device code reads dtype.h too: no includes"),
    ("include/fovea/*", [PUBLIC, DLPACK, STD], "public headers need std and DLPack, nothing else"),
    ("portable/compat.h", [STD], "compat.h brings the integer types"),
    ("portable/*", ["fovea/dtype.h", "portable/"], "portable/ is read by device compilers: no std, no vendor headers"),
    ("variants/*", ["portable/"], "a variant sees portable/ alone, not other variants"),
    ("src/support/*", [PUBLIC, "src/support/", FMT, STD, SYSTEM], "support/ stands below the rest of src/"),
    ("src/backend.h", [PUBLIC, "portable/", STD], "backend.h is the door between core and devices"),
    ("src/backends.cc", [PUBLIC, "src/", "backends/*/backend.h", FMT, STD], "the list of backends sees their backend.h alone"),
    ("src/problem/*", CORE + ["src/problem/"], "problem/ comes first: nothing to its right"),
    ("src/select/*", CORE + ["src/problem/", "src/select/"],
     "select/ sees problem/, not what comes after it"),
    ("src/schedule/*", CORE + ["src/problem/", "src/select/", "src/schedule/"],
     "schedule/ sees problem/ and select/, not what comes after it"),
    ("src/jit/*", CORE + ["src/jit/", SYSTEM, XXHASH], "jit/ compiles for any backend: it sees no stage of the core and no backend"),
    ("src/*", [PUBLIC, "portable/", "src/", FMT, STD], "the core reaches devices through src/backend.h only"),
    ("backends/cpu/device/*", ["fovea/dtype.h", "portable/", "backends/cpu/device/", SYSTEM, STD], "device code of the cpu backend"),
    ("backends/cpu/*", [PUBLIC, "portable/", "variants/", "generated/", "src/backend.h", "src/jit/", "src/problem/", "src/select/",
                        "src/support/", "backends/cpu/", "backends/*.h", FMT, TBB, STD, SYSTEM], "a backend sees backend.h and itself, never another backend"),
    ("backends/cuda/device/*", ["fovea/dtype.h", "portable/", "backends/cuda/device/"], "device code of the cuda backend"),
    ("backends/cuda/kernels/*.cuh", ["fovea/dtype.h", "portable/", "backends/cuda/device/", "backends/cuda/kernels/"], "device code of a kernel"),
    ("backends/cuda/probe/*.cuh", ["fovea/dtype.h", "portable/", "backends/cuda/device/", "backends/cuda/probe/"], "device code of a probe"),
    ("backends/cuda/*", [PUBLIC, "portable/", "src/backend.h", "src/jit/", "src/problem/", "src/select/", "src/support/", "backends/cuda/",
                         "backends/*.h", FMT, STD, SYSTEM], "a backend sees backend.h and itself, never another backend"),
    ("backends/reference/*", [PUBLIC, "portable/", "variants/", "generated/", "src/backend.h", "src/jit/", "src/problem/", "src/select/",
                              "src/support/", "backends/reference/", "backends/*.h", FMT, STD], "a backend sees backend.h and itself, never another backend"),
    ("backends/*", [PUBLIC, "portable/", "variants/", "generated/", "src/backend.h", "src/jit/", "src/support/", "backends/*.h", FMT, STD, SYSTEM],
     "what backends share sees no backend"),
    ("json/*", [PUBLIC, FMT, JSON, STD], "json/ stands below serving/ and bench/"),
    ("check/*", [PUBLIC, "portable/", "check/", FMT, STD], "check/ makes cases with the public API"),
    ("serving/*", [PUBLIC, "serving/", "json/", "backends/cuda/probe/", FMT, JSON, TBB, ZLIB, XXHASH, STD, SYSTEM],
     "serving/ is a client of the public API"),
    ("cli/*", [PUBLIC, "check/", "bench/", "serving/", "cli/", FMT, JSON, CLI11, STD, SYSTEM],
     "the command uses the public API, check/, bench/ and serving/"),
    ("python/binding/*", [PUBLIC, "python/binding/", TVM_FFI, STD], "the binding is a client of the public API"),
    ("bench/*", [PUBLIC, "check/", "bench/", "json/", "generated/", "backends/cuda/probe/", FMT, JSON, TBB, BENCHMARK, STD, SYSTEM],
     "benchmarks use the public API and check/"),
]

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
REASON = "// Long:"        # in the function or in the comment above it: why it is longer
COMPILER_MACRO = re.compile(r"^\s*#\s*(?:el)?if.*(__CUDA|__GNUC__|__clang__|_MSC_VER|__CUDACC)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')


def kind_of(bracket, target):
    """The library an angle include belongs to; None for a path of ours (users write <fovea/...>)."""
    if bracket == '"' or target.startswith(PUBLIC):
        return None
    for kind, prefixes in LIBRARIES.items():
        if target.startswith(prefixes):
            return kind
    if target in SYSTEM_HEADERS or target.startswith(("sys/", "linux/")):
        return SYSTEM
    return STD if "/" not in target else "unknown"


def allows(allowed, bracket, target):
    if ANYTHING in allowed:
        return True
    kind = kind_of(bracket, target)
    if kind is not None:
        return kind in allowed
    if "/" not in target or target.startswith("."):
        return False  # include paths are repository paths
    for rule in allowed:
        if "*" in rule:
            if fnmatch.fnmatch(target, rule) and target.count("/") == rule.count("/"):
                return True
        elif target == rule or (rule.endswith("/") and target.startswith(rule)):
            return True
    return False


def layer_of(path):
    for pattern, allowed, why in LAYERS:
        if fnmatch.fnmatch(path, pattern):
            return pattern, allowed, why
    return None


def resolves(root, target):
    generated = target.startswith("generated/") or target.startswith("gtest/")
    return generated or (root / target).is_file() or (root / "include" / target).is_file()


def check_includes(root, path, lines):
    layer = layer_of(path)
    if layer is None:
        yield 1, "no row of tools/check_layers.py says what this file may include"
        return
    pattern, allowed, why = layer
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            bracket, target = match.groups()
            if bracket == '"' and not resolves(root, target):
                yield number, f'"{target}" is no file under include/ or the repository root; include paths are repository paths'
            elif not allows(allowed, bracket, target):
                yield number, f"{pattern} may not include {target}: {why}"
        if path.startswith(("portable/", "variants/")) and path != "portable/compat.h" and not path.endswith("_test.cc"):
            if COMPILER_MACRO.match(line):
                yield number, "only portable/compat.h may ask which compiler is reading"


def strip_code(line, in_comment):
    """The line without comments, strings and character literals, for counting braces."""
    out, i = [], 0
    while i < len(line):
        if in_comment:
            end = line.find("*/", i)
            if end < 0:
                return "".join(out), True
            i, in_comment = end + 2, False
        elif line.startswith("//", i):
            break
        elif line.startswith("/*", i):
            in_comment, i = True, i + 2
        elif line[i] in "\"'" and not (line[i] == "'" and i > 0 and line[i - 1].isalnum()):
            quote, i = line[i], i + 1
            while i < len(line) and line[i] != quote:
                i += 2 if line[i] == "\\" else 1
            i += 1
        else:
            out.append(line[i])
            i += 1
    return "".join(out), in_comment


NOT_A_FUNCTION = re.compile(r"\b(namespace|struct|class|enum|union|concept)\b|=\s*$|\bextern\b")


def functions_of(lines):
    """(first line, last line, head) of every function-like body that is not inside another one. Rough: braces are counted."""
    stack, in_comment, head, head_line, raw_end = [], False, "", 1, None
    for number, line in enumerate(lines, 1):
        if raw_end is not None:  # inside a raw string
            if raw_end not in line:
                continue
            line, raw_end = line.split(raw_end, 1)[1], None
        raw = re.search(r'R"(\w*)\(', line)
        if raw and f'){raw.group(1)}"' not in line[raw.end():]:
            raw_end, line = f'){raw.group(1)}"', line[:raw.start()]
        if re.match(r"\s*#", line):
            continue
        code, in_comment = strip_code(line, in_comment)
        for character in code:
            if character == "{":
                is_function = "(" in head and not NOT_A_FUNCTION.search(head.split("(")[0])
                inside = any(function for function, _, _ in stack)
                stack.append((is_function and not inside, head_line, head.strip()))
                head = ""
            elif character == "}":
                if stack:
                    is_function, first, text = stack.pop()
                    if is_function:
                        yield first, number, text
                head = ""
            elif character == ";":
                head = ""
            else:
                if not head.strip() and not character.isspace():
                    head, head_line = "", number
                head += character
        head += " "


def check_lengths(path, lines):
    if len(lines) > MAX_FILE_LINES:
        yield len(lines), f"file has {len(lines)} lines; the limit is {MAX_FILE_LINES}"
    for first, last, head in functions_of(lines):
        length = last - first + 1
        if length > MAX_FUNCTION_LINES:
            above = first - 1
            while above > 0 and lines[above - 1].lstrip().startswith("//"):
                above -= 1
            if not any(REASON in line for line in lines[above:last]):
                name = re.sub(r"\s+", " ", head)[:80]
                yield first, f"function of {length} lines ({name}); the limit is {MAX_FUNCTION_LINES} without a comment `{REASON} reason`"


def sources(root):
    for folder in SOURCE_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCE_SUFFIXES and path.is_file() and "build" not in path.relative_to(root).parts:
                yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8").splitlines()


def violations(root):
    found = []
    for path, lines in sources(root):
        for check in (check_includes(root, path, lines), check_lengths(path, lines)):
            found += [f"{path}:{number}: {rule}" for number, rule in check]
    return found


def report_longest(root, count):
    files = sorted(((len(lines), path) for path, lines in sources(root)), reverse=True)[:count]
    functions = sorted(
        ((last - first + 1, f"{path}:{first}") for path, lines in sources(root) for first, last, _ in functions_of(lines)), reverse=True)[:count]
    for title, rows in (("longest files", files), ("longest functions", functions)):
        print(title)
        for length, name in rows:
            print(f"  {length:5}  {name}")


def self_test():
    """Every planted violation must be found, and the clean twin of each must pass."""
    body = "".join(f"  x += {i};\n" for i in range(MAX_FUNCTION_LINES))
    planted = [
        ("portable/a.h", "#include <vector>\n", "#include \"portable/b.h\"\n"),
        ("portable/a.h", "#if defined(__CUDACC_RTC__)\n#endif\n", "#if defined(FOVEA_X)\n#endif\n"),
        ("include/fovea/a.h", "#include \"portable/b.h\"\n", "#include <vector>\n"),
        ("include/fovea/a.h", "#include <fmt/format.h>\n", "#include <dlpack/dlpack.h>\n"),
        ("variants/a.h", "#include \"variants/b.h\"\n", "#include \"portable/b.h\"\n"),
        ("src/problem/a.cc", "#include \"src/schedule/b.h\"\n", "#include \"src/problem/b.h\"\n"),
        ("src/a.cc", "#include \"backends/cpu/backend.h\"\n", "#include \"src/backend.h\"\n"),
        ("src/backends.cc", "#include \"backends/cpu/b.h\"\n", "#include \"backends/cpu/backend.h\"\n"),
        ("backends/cpu/a.cc", "#include \"backends/reference/b.h\"\n", "#include \"backends/b.h\"\n"),
        ("cli/a.cc", "#include \"src/backend.h\"\n", "#include \"check/b.h\"\n"),
        ("examples/a.cc", "#include <fmt/format.h>\n", "#include <cstdio>\n"),
        ("src/a.cc", "#include \"../portable/b.h\"\n", "#include \"portable/b.h\"\n"),
        ("src/a.cc", "#include \"src/gone.h\"\n", "#include \"src/backend.h\"\n"),
        ("src/a.cc", "void f(int x) {\n" + body + "}\n", "void f(int x) {\n  // Long: a table.\n" + body + "}\n"),
        ("src/a.cc", "\n" * (MAX_FILE_LINES + 1), "\n" * MAX_FILE_LINES),
        ("bench/a.cc", "#include \"src/backend.h\"\n", "#include \"check/b.h\"\n"),
        ("serving/a.cc", "#include \"check/b.h\"\n", "#include <zlib.h>\n"),
        ("bench/a.cc", "#include <zlib.h>\n", "#include <vector>\n"),
    ]
    there = ["portable/b.h", "variants/b.h", "src/schedule/b.h", "src/problem/b.h", "src/backend.h", "backends/cpu/backend.h", "backends/cpu/b.h",
             "backends/reference/b.h", "backends/b.h", "check/b.h"]
    failures = []
    for number, (path, bad, good) in enumerate(planted):
        for text, expected in ((bad, True), (good, False)):
            with tempfile.TemporaryDirectory() as scratch:
                root = pathlib.Path(scratch)
                for name in there:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_text("")
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
                if bool(violations(root)) != expected:
                    failures.append(f"case {number} ({path}): {'not found' if expected else violations(root)}")
    for failure in failures:
        print(f"self-test: {failure}")
    print(f"self-test: {2 * len(planted) - len(failures)} of {2 * len(planted)} as expected")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--longest", type=int, default=0)
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    found = violations(args.root)
    for violation in found:
        print(violation)
    if args.longest:
        report_longest(args.root, args.longest)
    print(f"check_layers: {len(found)} violations in {sum(1 for _ in sources(args.root))} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
