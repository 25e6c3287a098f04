#!/bin/bash
# Boots systemd in a copy of a Debian root: boot.sh ROOT FOLDER, as the first process of new namespaces.
#
# What is written goes to memory and ends with the machine; FOLDER is its /shared. The network is the host's, so that the lab's
# loopback addresses are there; docker.io is therefore kept from making bridges and packet filters.
set -euo pipefail

base=$1 folder=$2
mount --make-rprivate /
top=$(mktemp -d)
mount -t tmpfs machine "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o "lowerdir=$base,upperdir=$top/upper,workdir=$top/work" overlay "$top/root"
cd "$top/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup sys/fs/cgroup
else
  mount -t tmpfs cgroup sys/fs/cgroup
  for controller in /sys/fs/cgroup/*/; do
    name=$(basename "$controller")
    mkdir "sys/fs/cgroup/$name"
    mount --bind "$controller" "sys/fs/cgroup/$name"
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
