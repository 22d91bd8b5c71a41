#!/bin/sh
# Process 1 of the guest of kernel.t, in its initramfs: makes what an installed system has made by then, runs the
# system tests named by KERNEL_TESTS, and powers off. TESTS, KILLS and SCALE stand on the kernel's command line,
# which puts into the environment what it does not know. All that is said goes to the second serial port as TAP, so
# that the kernel's own messages, on the first, can't fall into the middle of a line.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
# Raw: no carriage returns, and no echo of what qemu might send
stty -F /dev/ttyS1 raw -echo
exec </dev/null >/dev/ttyS1 2>&1

said() { if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; fi; }

echo "== begin guest"
echo "# kernel $(uname -r)"
[ ! -e /fuse.ko ] || insmod /fuse.ko
[ -c /dev/fuse ]
said $? 'the kernel has FUSE'
# connectfs ends a dead connection there
mount -t fusectl fusectl /sys/fs/fuse/connections
ip link set lo up
chmod 666 /dev/fuse
mkdir /tmp/stored /tmp/mnt
cd /connectfs || poweroff -f
./connectfs /tmp/stored /tmp/mnt 2>/tmp/log
said $? 'a mount'
./connectfs status /tmp/mnt 2>&1 | while read -r line; do echo "# $line"; done
umount /tmp/mnt
said $? 'unmounted'
echo "== end guest 0"

export CONNECTFS=/connectfs/connectfs CONNECTFS_TEST_PROGRAM=/connectfs/t/connectfs-test
export CONNECTFS_TEST_HELPERS=/connectfs/helpers CONNECTFS_KILLS="$KILLS" CONNECTFS_TEST_SCALE="$SCALE"
export CONNECTFS_TEST_TIMEOUT=3000 HOME=/tmp TERM=dumb
cd /connectfs/t/sys || poweroff -f
for test in $(echo "$TESTS" | tr , ' '); do
	echo "== begin $test"
	perl -I/connectfs/t/lib "$test"
	echo "== end $test $?"
done
echo "== done"
# The port is slow; what it still holds would be lost
sleep 1
poweroff -f
