#!/usr/bin/env bash
# Run a real S3 server on this machine: Ceph's RADOS gateway over one small cluster, all in memory.
#
#   scripts/ceph_for_tests.sh start DIR [PORT]   serve S3 at http://127.0.0.1:PORT (by default 19300)
#   scripts/ceph_for_tests.sh gateway DIR        start the gateway alone again, after it was killed
#   scripts/ceph_for_tests.sh stop DIR           end all of it
#
# Access key "test", secret "testtesttest". Nothing is installed as a service and nothing listens but
# on loopback: a monitor on PORT+1 and PORT+2, a manager, one OSD, and the gateway; about 400 MB.
# Debian and Ubuntu: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr ceph-common
set -euo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }

(($# >= 2)) || usage
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
conf=$dir/ceph.conf

write_conf() {
  local port=$1 fsid
  fsid=$(cat /proc/sys/kernel/random/uuid)
  cat >"$conf" <<CONF
[global]
fsid = $fsid
mon initial members = a
mon host = [v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = $dir/run
pid file = $dir/run/\$name.pid
admin socket = $dir/run/\$name.asok
log file = $dir/log/\$name.log
# one copy of everything, and nobody to keep secrets from
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
[mon]
mon data = $dir/mon
# each new pool waits for a map, and by default a map waits a second for what else may come
paxos propose interval = 0.05
paxos min wait = 0.01
[mgr]
mgr data = $dir/mgr
mgr modules =
[osd]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 4294967296
# where the classes that the gateway calls lie is searched for by name unless told
osd class load list = *
osd class default list = *
[client.rgw]
# without tcp_nodelay every small answer takes 40 ms
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw data = $dir/rgw
rgw dns name = 127.0.0.1
# the gateway asks for cephx and encryption, whatever [global] says
auth client required = none
ms mon client mode = crc
CONF
}

endpoint() { sed -n 's/^rgw frontends = beast endpoint=\([0-9.:]*\).*/http:\/\/\1/p' "$conf"; }

start_gateway() {
  radosgw -c "$conf" -n client.rgw
  for _ in $(seq 120); do
    if curl -sf -o /dev/null "$(endpoint)/"; then return; fi
    sleep 0.25
  done
  echo "ceph_for_tests: the gateway does not answer; see $dir/log" >&2
  exit 1
}

start() {
  mkdir -p "$dir"/{mon,mgr,osd,rgw,log,run}
  write_conf "$1"
  export CEPH_CONF=$conf
  local fsid uuid id
  fsid=$(sed -n 's/^fsid = //p' "$conf")
  monmaptool --create --clobber --fsid "$fsid" \
    --addv a "$(sed -n 's/^mon host = //p' "$conf")" "$dir/monmap" >/dev/null
  ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap"
  ceph-mon -c "$conf" -i a
  ceph-mgr -c "$conf" -i x
  uuid=$(cat /proc/sys/kernel/random/uuid)
  id=$(ceph -c "$conf" --connect-timeout 30 osd new "$uuid")
  ceph-osd -c "$conf" -i "$id" --mkfs --osd-uuid "$uuid"
  ceph-osd -c "$conf" -i "$id"
  start_gateway
  radosgw-admin -c "$conf" user create --uid=test --display-name=test \
    --access-key=test --secret-key=testtesttest >/dev/null
  endpoint
}

# The gateway first, or it waits for the others; each by the pid that it wrote itself.
stop() {
  local file pid
  for file in "$dir"/run/client.rgw.pid "$dir"/run/osd.*.pid "$dir"/run/mgr.x.pid "$dir"/run/mon.a.pid; do
    [[ -s $file ]] || continue
    pid=$(<"$file")
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$file"
  done
}

case $action in
  start) start "${3:-19300}" ;;
  gateway) start_gateway ;;
  stop) stop ;;
  *) usage ;;
esac
