# As steady.c, in Python: steady.py FILE STOP [SEED]
import os
import random
import sys

from versions import Versions

path, stop = sys.argv[1], sys.argv[2]
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
versions = Versions()
n = 0


def pieces(f):
    """All of it by short reads; now and then a step back, which must read the same."""
    data = b""
    while True:
        f.seek(len(data))
        piece = f.read(random.randint(1, 4096 if random.random() < 0.7 else 40))
        if not piece:
            return data
        data += piece
        if random.random() < 0.1:
            back = random.randrange(len(data))
            f.seek(back)
            if f.read(200) != data[back : back + 200] and len(data) > back + 200:
                sys.exit("bad step back")


while not os.path.exists(stop):
    try:
        with open(path, "rb", buffering=0) as f:
            text = (pieces(f) if n % 2 else f.read()).decode()
    except OSError as e:
        print("bad read at round", n, e)
        sys.exit(1)
    bad = versions.check(text)
    if bad:
        print("bad", bad, "at round", n, len(text), "bytes:", text[:300])
        sys.exit(1)
    n += 1
print("ok", n, "first", versions.first, "last", versions.last)
