#!/bin/busybox sh
# init.boot - first process of the small guest: says that user space is there, and powers off.
echo USERSPACE
exec /bin/busybox poweroff -f
