#!/bin/busybox sh
# The first process of a test machine: sets the stage, runs its job, tells how it went, switches off.
#
# The kernel passes `cgroups=v2|hybrid|v1` on as an environment variable. Everything for the host goes to
# the second serial port; lines that start with "@@" are read by `cargo xtask test --vm`.

export PATH=/bin HOME=/tmp
# The lab may change settings of the whole machine here.
export PROCJAIL_LAB_DISPOSABLE=1

if [ "$1" != staged ]; then
    # pivot_root(2) refuses the initial root file system: go on from a tmpfs.
    /bin/busybox mkdir -p /root
    /bin/busybox mount -t tmpfs -o mode=755 root /root
    /bin/busybox cp -a /bin /test /init /root
    exec /bin/busybox switch_root /root /init staged
fi

/bin/busybox mkdir -p /proc /sys /dev /tmp /run /etc /mnt /usr /var/cache
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
ln -s busybox /bin/bash
ln -s ../bin /usr/bin
ln -s bin /sbin
ln -s ../bin /usr/sbin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
ln -sf /proc/self/fd /dev/fd
hostname guest
echo 'root:x:0:0:root:/tmp:/bin/sh' >/etc/passwd
ip link set lo up

case $cgroups in
v2)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    ;;
*)
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    for controllers in memory pids cpu,cpuacct freezer; do
        mkdir /sys/fs/cgroup/$controllers
        mount -t cgroup -o $controllers cgroup /sys/fs/cgroup/$controllers
    done
    if [ "$cgroups" = hybrid ]; then
        mkdir /sys/fs/cgroup/unified
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    fi
    ;;
esac

# With a clock that counts instructions, kernels before 6.12 wait for ever for the second processor while
# they boot; later it comes at once.
echo 1 >/sys/devices/system/cpu/cpu1/online

# A swap area in memory. Only the test that needs one switches it on: with swap, the OOM killer comes later.
if [ -e /test/brd.ko ] && insmod /test/brd.ko rd_nr=1 rd_size=65536 && mkswap /dev/ram0 >/dev/null; then
    export PROCJAIL_TEST_SWAP=/dev/ram0
fi

exec >/dev/ttyS1 2>&1 </dev/null
stty -F /dev/ttyS1 raw -echo
echo "@@start $(uname -r)"
cd /test
# An emulated processor is slow: the tests that repeat themselves do so less often.
export PROCJAIL_TEST_ROUNDS=10 PROCJAIL_TEST_FACTS=/tmp/facts PROCJAIL_TEST_CGROUPS=$cgroups
export PROCJAIL_TEST_NOTES=/tmp/notes
# In a session of its own, as on any host: that of the first process has the number 0.
setsid $(cat command)
status=$?
[ -e /tmp/notes ] && sed 's/^/@@note /' /tmp/notes
for trace in /tmp/*.jsonl; do
    [ -e "$trace" ] && sed 's/^/@@trace /' "$trace"
done
[ -e /tmp/facts ] && sed 's/^/@@fact /' /tmp/facts
[ $status -ne 0 ] && dmesg | sed 's/^/@@log /'
echo "@@end $status"
# The port's buffer must be empty before the machine is gone.
sleep 1
poweroff -f
