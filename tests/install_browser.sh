#!/bin/sh
# Install Debian's Chromium if this is a machine where that is possible; say so if it is not.
set -u
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "Chromium is not installed and cannot be installed here: tests that open a page will skip." >&2
