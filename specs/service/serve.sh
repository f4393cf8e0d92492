#!/bin/sh
# The service of service.yaml: a heartbeat in /run until it is told to stop.
stop() {
	echo "stopping"
	exit 0
}
trap stop TERM INT

cat /etc/motd
touch /file 2>&1
grep -E '^(CapEff|NoNewPrivs)' /proc/self/status
echo "ready"
while :; do
	date > /run/heartbeat
	# wait(1) ends when a trapped signal comes, sleep(1) does not.
	sleep 1 &
	wait $!
done
