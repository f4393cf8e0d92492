#!/bin/sh
# The same in as few processes as ip(8) can do it.
set -e
ip -batch - <<BATCH
link add bench0 type veth peer name eth0 netns $1
link set bench0 up
address add 10.88.0.1/24 dev bench0
address add fd88::1/64 dev bench0 nodad
BATCH
ip -n "$1" -batch - <<BATCH
link set eth0 up
address add 10.88.0.2/24 dev eth0
address add fd88::2/64 dev eth0 nodad
route add default via 10.88.0.1
route add default via fd88::1
BATCH
echo
ip link del bench0
