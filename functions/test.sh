#!/usr/bin/env bash
# Make the environment of each function and run its tests in it: test.sh [PYTHON] [FUNCTION…]
# An environment is made once, and again when the function's pyproject.toml changes.
set -euo pipefail
python="$(command -v "${1:-python3}")"
case "$python" in /*) ;; *) python="$PWD/$python" ;; esac
cd "$(dirname "$0")"
shift || true
for name in "${@:-}"; do [ -n "$name" ] || continue; chosen+=("$name"); done
[ -n "${chosen:-}" ] || chosen=(*/)
for name in "${chosen[@]%/}"; do
  [ -f "$name/func.yaml" ] || continue
  venv="$name/.venv"
  if ! cmp -s "$name/pyproject.toml" "$venv/.made-from"; then
    rm -rf "$venv"
    began=$(date +%s)
    "$python" -m venv "$venv"
    # pip reads the extra from the project; the package itself is imported from its folder.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$name[test]"
    cp "$name/pyproject.toml" "$venv/.made-from"
    echo "$name: environment made in $(($(date +%s) - began)) s, $(du -sm "$venv" | cut -f1) MB"
  fi
  echo "$name:"
  (cd "$name" && .venv/bin/python -m pytest -q)
done
