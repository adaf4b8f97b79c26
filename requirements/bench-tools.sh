#!/bin/sh
# Check that what `make bench` runs beside Python is there; as root on Debian or Ubuntu install it.
set -eu

modules=/usr/lib/nginx/modules
missing=
need() {
    [ "$1" = there ] || missing="$missing $2"
}
there() {
    if "$@" >/dev/null 2>&1; then echo there; else echo missing; fi
}
need "$(there command -v nginx)" nginx
need "$(there command -v wrk)" wrk
need "$(there command -v redis-benchmark)" redis-tools
need "$(there test -e $modules/ngx_http_lua_module.so)" libnginx-mod-http-lua
need "$(there test -e /usr/share/lua/5.1/nginx/redis.lua)" lua-nginx-redis
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: the benchmark needs$missing (Debian and Ubuntu: apt-get install$missing)" >&2
    exit 1
fi
echo "installing$missing (about 30 s)"
# Debian starts a package's service at once; ours are started by the benchmark itself.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of packages
apt-get install -qq -y --no-install-recommends $missing >/dev/null
