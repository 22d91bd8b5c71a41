# As reader.c, in Python: reader.py FILE N
import sys

from versions import Versions

path, n = sys.argv[1], int(sys.argv[2])
versions = Versions()
for i in range(n):
    with open(path, "rb", buffering=0 if i % 2 else -1) as f:
        text = f.read().decode() if i % 2 == 0 else b"".join(iter(lambda: f.read(4096), b"")).decode()
    bad = versions.check(text)
    if bad:
        print("bad", bad, "at round", i, len(text), "bytes:", text[:300])
        sys.exit(1)
print("ok", n, "first", versions.first, "last", versions.last)
