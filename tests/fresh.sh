#!/usr/bin/env bash
# Run `make demo` as somebody does who has just cloned the repository: with a plain pip and an empty
# model store. Removes all that it made.
#     tests/fresh.sh PYTHON [TORCH_CPU_INDEX]
set -euo pipefail
python=$(command -v "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

git clone --quiet "$root" "$folder/relume"
echo "fresh: $("$python" --version), commit $(git -C "$folder/relume" rev-parse --short HEAD)"
# An index, a proxy or a certificate that the network needs stays; where else to find torch does not.
env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_CONSTRAINT -u MAKEFLAGS -u MFLAGS \
    PIP_CONFIG_FILE=/dev/null RELUME_HOME="$folder/home" \
    make --directory "$folder/relume" demo PYTHON="$python" ${2+TORCH_CPU_INDEX="$2"}
du -sh "$folder/relume/.venv" "$folder/home"
echo "fresh: $("$python" --version) took $SECONDS s"
