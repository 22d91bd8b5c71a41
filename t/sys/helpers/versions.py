# Readers' check of what they read, as in versions.h: each text one whole version as rotate.c writes it, and
# versions only go up.
import re

WHOLE = re.compile(r"name=orders\nfirst=(\d+)\na=(\d+)-(x*)\nb=(\d+)\nlast=(\d+)\n\Z")


class Versions:
    first = last = 0

    def check(self, text):
        """None, or what is wrong with the text."""
        m = WHOLE.match(text)
        if not m:
            return "form"
        v = int(m.group(1))
        if any(int(m.group(g)) != v for g in (2, 4, 5)) or len(m.group(3)) != v * 37 % 3000:
            return "mix"
        if v < self.last:
            return "went back"
        self.last = v
        self.first = self.first or v
        return None
