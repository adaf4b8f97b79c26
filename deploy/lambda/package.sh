#!/bin/sh
# Fill a folder with what the function needs: deploy/lambda/package.sh FOLDER [ARCHITECTURE [PYTHON]]
#
# ARCHITECTURE is arm64 (the default) or x86_64, PYTHON the runtime's version (3.13). Dependencies are
# wheels for that runtime with the hashes of requirements/lambda.lock. "none" in place of the
# architecture leaves them out: for a layer, or a machine that has them.
set -eu
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$1 architecture=${2:-arm64} python=${3:-3.13}

case $architecture in
arm64) machine=aarch64 ;;
x86_64) machine=x86_64 ;;
none) machine= ;;
*)
    echo "error: the architecture is arm64, x86_64 or none, not $architecture" >&2
    exit 2
    ;;
esac

mkdir -p "$folder"
if [ -n "$machine" ]; then
    # The runtimes since Python 3.12 have a C library of 2.34: wheels for older ones do.
    "${PIP_PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --upgrade \
        --target "$folder" --implementation cp --python-version "$python" \
        --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" \
        --platform "manylinux2014_$machine" \
        --require-hashes --no-deps --only-binary :all: -r "$root/requirements/lambda.lock"
fi
rm -rf "$folder/proxy"
(cd "$root" && find proxy -name __pycache__ -prune -o -type f -print) | while read -r file; do
    mkdir -p "$folder/$(dirname "$file")"
    cp "$root/$file" "$folder/$file"
done
cp "$root/deploy/lambda/handler.py" "$folder/"
