#!/bin/sh
# Write every lock file anew: requirements/lock.sh UV [--upgrade]
#
# One resolution serves all that runs the product: dev.lock holds everything, and demo.lock,
# runtime.lock, build.lock and lambda.lock are cut from it by constraint, so no two of them name
# different versions.
set -eu
uv=$1
shift
cd "$(dirname "$0")/.."

lock() {
    echo "locking $1"
    output=requirements/$1
    shift
    UV_CUSTOM_COMPILE_COMMAND='make lock' "$uv" pip compile --quiet --universal \
        --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --output-file "$output" "$@" >/dev/null
}

demo="pyproject.toml requirements/build.in requirements/demo.in"
# shellcheck disable=SC2086  # a list of files
lock dev.lock $demo --group pyproject.toml:dev "$@"
# shellcheck disable=SC2086  # a list of files
lock demo.lock $demo --group pyproject.toml:demo --constraints requirements/dev.lock
lock runtime.lock pyproject.toml --constraints requirements/dev.lock
lock build.lock requirements/build.in --constraints requirements/dev.lock
lock lambda.lock requirements/lambda.in --constraints requirements/dev.lock
for name in bench dynamodb clients tools; do
    lock "$name.lock" "requirements/$name.in" "$@"
done
