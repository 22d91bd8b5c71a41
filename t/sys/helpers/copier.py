# As reader.py, but through shutil.copyfile, which takes sendfile(2) where it can: copier.py N OUT FILE
import re
import shutil
import sys

n, out, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
whole = re.compile(r"name=orders\nfirst=(\d+)\na=(\d+)-(x*)\nb=(\d+)\nlast=(\d+)\n\Z")
first = last = bad = 0
for i in range(n):
    shutil.copyfile(path, out)
    with open(out) as f:
        text = f.read()
    m = whole.match(text)
    v = int(m.group(1)) if m else 0
    if not m or any(int(m.group(g)) != v for g in (2, 4, 5)) or len(m.group(3)) != v * 37 % 3000 or v < last:
        bad += 1
        continue
    last = v
    first = first or v
if bad:
    print("bad copies:", bad, "of", n)
    sys.exit(1)
print("ok", n, "first", first, "last", last)
