#!/bin/sh
# OpenVINO 2026.4.1: "import openvino" writes an identifier below the home folder, and sends it to its makers.
#
# Expected: an import of a library leaves no files in the home folder, and opens no connection.
# Seen: without a word it makes ~/intel with an identifier of this user, and hands an event ("ov", "import") to the
#   sender of openvino-telemetry, a package that pip installs with it. No dialog asks. Where that package is not found,
#   the import goes on without it, writes nothing and sends nothing.
# Why it matters: a program with OpenVINO as one of its backends reports its users. Hide the package while OpenVINO is
#   imported (sys.modules["openvino_telemetry"] = None).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'openvino==2026.4.1' 'openvino-telemetry==2025.2.0' 'numpy==2.4.6'
# Events are counted in place of being sent.
cat >"$folder/import.py" <<'PY'
import sys

events = []
if sys.argv[1] == "hidden":
    sys.modules["openvino_telemetry"] = None
else:
    from openvino_telemetry.utils.sender import TelemetrySender

    TelemetrySender.send = lambda self, backend, message: events.append(message)
import openvino  # noqa: F401

print(len(events))
PY
for way in found hidden; do
    mkdir "$folder/$way"
    # Automatic tests are told by CI, and are not reported.
    events=$(env -i PATH="$PATH" HOME="$folder/$way" "$folder/env/bin/python" "$folder/import.py" "$way")
    files=$(find "$folder/$way" -name openvino_ga_cid | wc -l)
    echo "openvino-telemetry $way: $events events, $files identifiers in the home folder"
    eval "$way=\"$events \$((files))\""
done
if [ "${found%% *}" -lt 1 ] || [ "${found##* }" != 1 ] || [ "$hidden" != "0 0" ]; then
    echo "The behavior has changed." >&2
    exit 1
fi
