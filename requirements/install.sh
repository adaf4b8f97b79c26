#!/bin/sh
# Fill a virtual environment from a lock file: requirements/install.sh VENV LOCK SECONDS
#
# Creates VENV when it is missing or broken, with $PYTHON or the first Python >= 3.11 found.
# Only wheels, only with the hashes of the lock: nothing is built and nothing unlocked gets in. The
# lock names everything, so pip looks for no dependency: `name[extra]` of one package would not be
# held by the lock's `name==`, and stop the installation as soon as there is a newer release.
set -eu
venv=$1 lock=$2 seconds=$3

die() {
    echo "error: $1" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "no Python >= 3.11 (tried: ${PYTHON:-python3 python3.13 python3.12 python3.11}); install one, or name one: make PYTHON=/path/to/python3"
}

if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python has no venv module; install it (Debian and Ubuntu: apt install python3-venv)"
    echo "creating $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

echo "installing $lock into $venv (about $seconds s)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: -r "$lock" ||
    die "could not install $lock into $venv; pip's reason stands above (does it reach the package index?)"
wanting=$("$venv/bin/python" -m pip check) ||
    die "$lock does not name all that its packages need; run \`make lock\`: $wanting"
