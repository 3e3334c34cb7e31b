#!/bin/sh
# Numba 0.68.1: cached machine code reads the fields of a named tuple by the order that they had when it was compiled.
#
# Expected: after the fields of a NamedTuple change places in its module, a function with cache=True that takes it is
#   compiled again, or reads the fields by their names.
# Seen: the cache looks only at the content of the function's own file and at the types. With fields of equal types the
#   old code runs on, and each field has the value of another: 5 - 3 gives -2. Touching the function's file changes
#   nothing, editing it does.
# Why it matters: loops that count pixels take their arrays as named tuples. After a change in the module of the tuple
#   the counts of a dissection are wrong, without any message.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'numba==0.68.1' 'numpy==2.4.6'
cd "$folder"
cat >counting.py <<'PY'
from numba import njit

from counts import Counts


@njit(cache=True)
def difference(counts):
    return counts.union - counts.intersection


print(difference(Counts(union=5.0, intersection=3.0)))
PY
write() {
    printf 'from typing import NamedTuple\n\n\nclass Counts(NamedTuple):\n    # %s first\n    %s: float\n    %s: float\n' \
        "$1" "$1" "$2" >counts.py
}
write union intersection
before=$(env/bin/python counting.py)
write intersection union
after=$(env/bin/python counting.py)
sleep 1
touch counting.py
touched=$(env/bin/python counting.py)
echo '# edited' >>counting.py
edited=$(env/bin/python counting.py)
echo "compiled: $before; fields in the other order: $after; function's file touched: $touched; edited: $edited"
if [ "$before $after $touched $edited" != "2.0 -2.0 -2.0 2.0" ]; then
    echo "The behavior has changed." >&2
    exit 1
fi
