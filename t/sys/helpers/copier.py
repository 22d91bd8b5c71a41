# As reader.py, but through shutil.copyfile, which takes sendfile(2) where it can: copier.py N OUT FILE
import shutil
import sys

from versions import Versions

n, out, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
versions = Versions()
bad = 0
for i in range(n):
    shutil.copyfile(path, out)
    with open(out) as f:
        bad += versions.check(f.read()) is not None
if bad:
    print("bad copies:", bad, "of", n)
    sys.exit(1)
print("ok", n, "first", versions.first, "last", versions.last)
