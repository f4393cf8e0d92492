#!/bin/sh
# What network.yaml has, by ip(8): into the named namespace $1, and away again.
set -e
ip link add bench0 type veth peer name eth0 netns "$1"
ip link set bench0 up
ip address add 10.88.0.1/24 dev bench0
ip address add fd88::1/64 dev bench0 nodad
ip -n "$1" link set eth0 up
ip -n "$1" address add 10.88.0.2/24 dev eth0
ip -n "$1" address add fd88::2/64 dev eth0 nodad
ip -n "$1" route add default via 10.88.0.1
ip -n "$1" -6 route add default via fd88::1
echo
ip link del bench0
