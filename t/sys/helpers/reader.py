# As reader.c, in Python: reader.py FILE N
import re
import sys

path, n = sys.argv[1], int(sys.argv[2])
whole = re.compile(r"name=orders\nfirst=(\d+)\na=(\d+)-(x*)\nb=(\d+)\nlast=(\d+)\n\Z")
first = last = 0
for i in range(n):
    with open(path, "rb", buffering=0 if i % 2 else -1) as f:
        text = f.read().decode() if i % 2 == 0 else b"".join(iter(lambda: f.read(4096), b"")).decode()
    m = whole.match(text)
    if not m:
        print("bad form at round", i, len(text), "bytes:", text[:300])
        sys.exit(1)
    v = int(m.group(1))
    if any(int(m.group(g)) != v for g in (2, 4, 5)) or len(m.group(3)) != v * 37 % 3000:
        print("bad mix at round", i, text[:300])
        sys.exit(1)
    if v < last:
        print("bad went back at round", i, v, last)
        sys.exit(1)
    last = v
    first = first or v
print("ok", n, "first", first, "last", last)
