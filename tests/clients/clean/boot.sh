#!/bin/bash
# Boots systemd in a copy of a Debian root: boot.sh ROOT FOLDER. It calls itself once more, as the first process of new
# namespaces and of a control group of its own.
#
# What is written goes to memory and ends with the machine; FOLDER is its /shared. The network is the host's, so that the lab's
# loopback addresses are there; docker.io is therefore kept from making bridges and packet filters.
set -euo pipefail

base=$1 folder=$2
own=$(basename "$folder")
groups=/sys/fs/cgroup
if [ "$$" != 1 ]; then
  for procs in "$groups/cgroup.procs" "$groups"/*/cgroup.procs; do
    [ -e "$procs" ] || continue
    parent=$(dirname "$procs")
    mkdir "$parent/$own"
    for file in cpuset.cpus cpuset.mems; do # version 1 leaves them empty, and then takes no process
      [ ! -e "$parent/$own/$file" ] || [ -e "$groups/cgroup.controllers" ] || cat "$parent/$file" >"$parent/$own/$file"
    done
    echo $$ >"$parent/$own/cgroup.procs"
  done
  # Not in one step: the control group must be this one's when its namespace is made.
  exec unshare --pid --mount --cgroup --uts --ipc --fork --kill-child bash "$0" "$base" "$folder"
fi
mount --make-rprivate /
top=$(mktemp -d)
mount -t tmpfs machine "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o "lowerdir=$base,upperdir=$top/upper,workdir=$top/work" overlay "$top/root"
cd "$top/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
if [ -e "$groups/cgroup.controllers" ]; then
  mount -t cgroup2 cgroup sys/fs/cgroup
else
  mount -t tmpfs cgroup sys/fs/cgroup
  for controller in "$groups"/*/; do
    name=$(basename "$controller")
    [ -d "$controller$own" ] || continue
    mkdir "sys/fs/cgroup/$name"
    mount --bind "$controller$own" "sys/fs/cgroup/$name"
  done
fi
mount -t tmpfs run run
mount -t tmpfs dev dev
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm shared old
mount -t devpts -o newinstance devpts dev/pts
ln -s pts/ptmx dev/ptmx
touch "$folder/console" dev/console
mount --bind "$folder/console" dev/console
mount --bind "$folder" shared

mkdir -p etc/docker
echo '{"bridge": "none", "iptables": false, "ip6tables": false, "storage-driver": "vfs"}' >etc/docker/daemon.json
printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
  >etc/containers/storage.conf

pivot_root . old
umount --lazy old
exec env --ignore-environment container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --log-target=console --unit=multi-user.target
