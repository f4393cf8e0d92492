#!/bin/sh
# "Compiles" hello.in: the build of build.yaml.
set -eu
echo "interfaces: $(grep -o '[a-z0-9]*:' /proc/net/dev | xargs)"
if touch hello.in 2>/dev/null; then
	echo "the source is writable"
	exit 1
fi
echo "the source is read-only"
sed "s/@WHO@/$(hostname)/" hello.in > "$1/hello"
chmod 755 "$1/hello"
"$1/hello"
