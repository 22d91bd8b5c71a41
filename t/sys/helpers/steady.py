# As steady.c, in Python: steady.py FILE STOP [SEED]
import os
import random
import re
import sys

path, stop = sys.argv[1], sys.argv[2]
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
whole = re.compile(r"name=orders\nfirst=(\d+)\na=(\d+)-(x*)\nb=(\d+)\nlast=(\d+)\n\Z")
n = first = last = 0


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
    m = whole.match(text)
    if not m:
        print("bad form at round", n, len(text), "bytes:", text[:300])
        sys.exit(1)
    v = int(m.group(1))
    if any(int(m.group(g)) != v for g in (2, 4, 5)) or len(m.group(3)) != v * 37 % 3000:
        print("bad mix at round", n, text[:300])
        sys.exit(1)
    if v < last:
        print("bad went back at round", n, v, last)
        sys.exit(1)
    last = v
    first = first or v
    n += 1
print("ok", n, "first", first, "last", last)
