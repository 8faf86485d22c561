#!/bin/sh
# Install SafeChat with the pins of requirements/cpu.lock, and of its needs only those of one part:
#   images/install.sh PYTHON [EXTRA]
# PYTHON is an interpreter, of an image or of a virtual environment; EXTRA is `ui` or `train`.
set -eu

python=$1
extra=${2:+"[$2]"}
cd "$(dirname "$0")/.."
"$python" -m pip install --no-cache-dir --disable-pip-version-check --quiet \
    --constraint requirements/cpu.lock ".$extra"
