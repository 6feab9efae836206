#!/bin/bash
# clang-format over all of our own sources; `--check` changes nothing and fails where something would change.
# Version 16 exactly: other versions lay code out differently, and older ones can't insert braces.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(-i)
if [[ "${1:-}" == "--check" ]]; then
  mode=(--dry-run --Werror)
fi
git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cc' '*.cu' '*.cuh' ':!third_party' | xargs -0 -P "$(nproc)" -n 16 clang-format-16 "${mode[@]}"
