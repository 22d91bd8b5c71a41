# pread.py FILE: reads at odd offsets and lengths, compares with the whole, prints "ok SIZE" or what differs
import mmap
import os
import random
import signal
import sys

fd = os.open(sys.argv[1], os.O_RDONLY)
whole = b""
while True:
    b = os.read(fd, 65536)
    if not b:
        break
    whole += b
size = os.fstat(fd).st_size
if size != len(whole):
    sys.exit("fstat says %d, read %d" % (size, len(whole)))
if os.lseek(fd, 0, os.SEEK_END) != size:
    sys.exit("SEEK_END")
random.seed(7)
for i in range(300):
    at = random.randrange(0, size + 20)
    n = random.choice((0, 1, 2, 3, 511, 512, 513, 4095, 4096, 4097, 70000))
    got = os.pread(fd, n, at)
    if got != whole[at:at + n]:
        sys.exit("pread(%d, %d) differs" % (n, at))
for at in (size, size + 1, size + 4096, 1 << 40):
    if os.pread(fd, 10, at) != b"":
        sys.exit("something beyond the end at %d" % at)
buf = [bytearray(3), bytearray(0), bytearray(100)]
n = os.preadv(fd, buf, 1)
if b"".join(bytes(b) for b in buf)[:n] != whole[1:1 + n]:
    sys.exit("preadv")
# Nothing of it may get into the page cache: a mapping has no bytes
pid = os.fork()
if pid == 0:
    m = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    os._exit(0 if m[:1] == whole[:1] else 1)
if os.WTERMSIG(os.waitpid(pid, 0)[1]) != signal.SIGBUS:
    sys.exit("mmap shows something")
print("ok", size)
