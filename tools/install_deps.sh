#!/bin/bash
# Installs what building and testing need and is not there yet: Debian packages through apt (as root or by sudo), Python packages into .venv.
# Calls neither apt nor pip when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ cmake ninja-build libtbb-dev libfmt-dev libxxhash-dev zlib1g-dev nlohmann-json3-dev libcli11-dev libgtest-dev
  clang libclang-rt-14-dev clang-format-16 python3 python3-venv)

if command -v dpkg-query > /dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    if [[ "$(dpkg-query -W -f='${Status}' "$package" 2> /dev/null)" != "install ok installed" ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} > 0)); then
    as_root=()
    if ((EUID != 0)); then
      if ! command -v sudo > /dev/null; then
        echo "make deps: missing packages (${missing[*]}); install them as root: apt-get install ${missing[*]}" >&2
        exit 1
      fi
      as_root=(sudo)
    fi
    echo "make deps: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  fi
else
  echo "make deps: no dpkg here; expecting what these Debian packages hold: ${packages[*]}" >&2
fi

requirements=(tests/nvrtc/requirements.txt python/requirements-report.txt python/requirements-test.txt)
torch="torch==2.13.0+cpu" # PyPI itself has only builds for CUDA, which are too large for a test
if ! cmp -s <(cat "${requirements[@]}") .venv/installed-requirements.txt; then
  echo "make deps: installing ${requirements[*]} into .venv"
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "${requirements[@]/#/--requirement=}"
  if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check "$torch" 2> /dev/null; then
    echo "make deps: no $torch on this machine's package indexes; the Python package is tested without torch" >&2
  fi
  cat "${requirements[@]}" > .venv/installed-requirements.txt
fi
